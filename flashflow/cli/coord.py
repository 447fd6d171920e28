"""`flashflow coord --config FILE`: the coordinator, in the foreground, logging to stderr (systemd's journal)."""

from pathlib import Path
from typing import Annotated

import typer

from flashflow.cli.app import App
from flashflow.shell.aio import run
from flashflow.shell.logs import start_logging

app = App()


@app.command()
def coord(
    config: Annotated[Path, typer.Option("--config", "-c", help="coord.conf")],
) -> None:
    """Run the coordinator until SIGINT or SIGTERM; the first drains, a second stops at once."""
    from coordinator.app import CoordinatorService, prepare
    from flashflow.config.coord import load_coord

    settings = load_coord(config)
    start_logging(settings.log_level)
    lock, store = prepare(settings)

    async def serve() -> int:
        return await CoordinatorService(settings, store).run()

    status = run(serve())
    del lock  # held until here
    raise SystemExit(status)
