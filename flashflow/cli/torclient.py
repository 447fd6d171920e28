"""`flashflow torclient`: FlashFlow's own Tor client, started by coord and measurer."""

from pathlib import Path

import typer

from flashflow.cli.app import App
from flashflow.shell.aio import run
from flashflow.torclient.app import Settings, serve

app = App()


@app.command()
def torclient(
    data_dir: Path = typer.Option(..., "--data-dir", help="Holds the control socket and its cookie."),
    tls_key: Path | None = typer.Option(
        None, "--tls-key", help="PEM file with key and certificate to show to relays."
    ),
    workers: int = typer.Option(
        0, "--workers", min=0, max=256, help="Worker processes; 0: one per processor."
    ),
    bucket_cells: int = typer.Option(
        125, "--bucket-cells", min=1, max=100_000, help="One echo in so many is checked."
    ),
) -> None:
    """Serve a Tor control port on DATA_DIR/control until SIGTERM or the owner's end."""
    raise SystemExit(run(serve(Settings(data_dir, tls_key, workers, bucket_cells))))
