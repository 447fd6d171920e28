"""`flashflow coord --config FILE`: the coordinator, in the foreground, logging to stderr (systemd's journal)."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from flashflow.cli.app import App
from flashflow.shell.aio import run

app = App()


@app.command()
def coord(
    config: Annotated[Path, typer.Option("--config", "-c", help="coord.conf")],
) -> None:
    """Run the coordinator until SIGINT or SIGTERM; the first drains, a second stops at once."""
    from coordinator.app import CoordinatorService, prepare
    from flashflow.config.coord import load_coord

    settings = load_coord(config)
    logging.basicConfig(
        level=settings.log_level_number, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("stem").setLevel(logging.WARNING)
    store = prepare(settings)

    async def serve() -> int:
        return await CoordinatorService(settings, store).run()

    raise typer.Exit(run(serve()))
