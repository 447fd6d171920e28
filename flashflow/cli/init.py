"""`flashflow init coord|measurer DIR`: a directory with configuration and keys, and what to do next, in words."""

import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from flashflow.cli.app import App
from flashflow.config.coord import load_coord
from flashflow.config.measurer import load_measurer
from flashflow.keys.certificates import check_name, export_certificate, keygen
from flashflow.model.errors import LocalError
from flashflow.shell.files import make_private_dir

EXAMPLES = Path(__file__).parent.parent / "config" / "examples"
"""Shipped with the package, and what the project's root shows as *.example."""

app = App(help="Make a directory with configuration and keys.")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Made if missing.")]

_COORD_STEPS = """\
Made the coordinator {name} in {folder}. Next:
 1. Edit {config}: listen_addr must be an address that the measurers can reach;
    consensus and descriptors name the files of a tor on this host.
 2. Name the relays that may be measured in {relay_filter}; it names none now.
 3. Give {cert} to every measurer (its coord_cert).
 4. Put every measurer's NAME.cert.pem into {keydir}.
 5. flashflow config check {config}
 6. flashflow coord --config {config}"""

_MEASURER_STEPS = """\
Made the measurer {name} in {folder}. Next:
 1. Edit {config}: coord_addr is where the coordinator listens, max_rate what this host may send,
    allowed_networks where to.
 2. Put the coordinator's certificate (coord.cert.pem there) here as {coord_cert}.
 3. Give {cert} to the coordinator, for its keydir.
 4. flashflow config check {config}
 5. flashflow measurer --config {config}"""


@app.callback()
def group() -> None:
    """Make a directory with configuration and keys."""


@app.command()
def coord(
    folder: Folder,
    name: Annotated[str, typer.Option(help="The name in the certificate.")] = "coord",
) -> None:
    """Make DIR ready for a coordinator; nothing that exists is overwritten."""
    config = folder / "coord.conf"
    files = {config: "coord.conf.example", folder / "relay_filter": "relay_filter.example"}
    check_name(name)
    _prepare(folder, files, "data-coord")
    settings = load_coord(config)
    cert = _make_keys(settings.datadir, settings.key, name)
    print(
        _COORD_STEPS.format(
            name=name,
            folder=folder,
            config=config,
            relay_filter=folder / "relay_filter",
            keydir=settings.keydir,
            cert=cert,
        )
    )


@app.command()
def measurer(
    folder: Folder,
    name: Annotated[
        str | None, typer.Option(help="The measurer's name, unlike every other's (default: this host's).")
    ] = None,
) -> None:
    """Make DIR ready for a measurer; nothing that exists is overwritten."""
    chosen = check_name(socket.gethostname().partition(".")[0] if name is None else name)
    config = folder / "measurer.conf"
    _prepare(folder, {config: "measurer.conf.example"}, "data-meas")
    settings = load_measurer(config)
    cert = _make_keys(settings.datadir, settings.key, chosen)
    print(
        _MEASURER_STEPS.format(
            name=chosen, folder=folder, config=config, coord_cert=settings.coord_cert, cert=cert
        )
    )


def _prepare(folder: Path, files: dict[Path, str], datadir: str) -> None:
    """Write the files from the examples; refuse before anything is written if one of them or a key exists."""
    for path in [*files, *sorted((folder / datadir / "keys").glob("*.pem"))]:
        if path.exists():
            raise LocalError(f"{path}: exists already and is not overwritten; nothing was made")
    make_private_dir(folder)
    for path, example in files.items():
        _write_new(path, (EXAMPLES / example).read_bytes())


def _write_new(path: Path, data: bytes) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except OSError as error:
        raise LocalError(f"{path}: cannot be written ({error.strerror})") from None


def _make_keys(datadir: Path, key: Path, name: str) -> Path:
    """Key and certificate in the file `key`, the certificate alone in NAME.cert.pem beside it; give the latter."""
    make_private_dir(datadir)
    make_private_dir(key.parent)
    keygen(key, name, datetime.now(UTC))
    cert = key.with_name(f"{name}.cert.pem")
    export_certificate(key, cert)
    return cert
