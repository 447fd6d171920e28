"""`flashflow measurer --config FILE`: a measurer, in the foreground, logging to stderr (systemd's journal)."""

from pathlib import Path
from typing import Annotated

import typer

from flashflow.cli.app import App
from flashflow.shell.aio import run
from flashflow.shell.logs import start_logging

app = App()


@app.command()
def measurer(
    config: Annotated[Path, typer.Option("--config", "-c", help="measurer.conf")],
) -> None:
    """Run a measurer until SIGINT or SIGTERM; the first lets measurements end, a second stops at once."""
    from flashflow.config.measurer import load_measurer
    from measurer.app import MeasurerService, prepare

    settings = load_measurer(config)
    start_logging(settings.log_level)
    lock = prepare(settings)

    async def serve() -> int:
        return await MeasurerService(settings).run()

    status = run(serve())
    del lock  # held until here
    raise SystemExit(status)
