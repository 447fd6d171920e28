"""`flashflow keygen coord|measurer NAME [--dir D]`: a key with its certificate, and the certificate alone."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flashflow.cli.app import App
from flashflow.keys import keygen as make
from flashflow.keys.certificates import certificate_path, check_name, export_certificate
from flashflow.model.errors import LocalError

app = App()


class Role(StrEnum):
    """Whose key it is."""

    COORD = "coord"
    MEASURER = "measurer"


_NEXT = {
    Role.COORD: "put {cert} on every measurer's host and name it in measurer.conf as coord_cert",
    Role.MEASURER: "put {cert} into the coordinator's key directory and restart the coordinator",
}


@app.command()
def keygen(
    role: Annotated[Role, typer.Argument(help="Whose key: the coordinator's or a measurer's.")],
    name: Annotated[str, typer.Argument(help="Its name, unique among the measurers: A-Z a-z 0-9 . _ -")],
    folder: Annotated[Path, typer.Option("--dir", help="Where the two files go.")] = Path("."),
) -> None:
    """Make NAME.pem (key and certificate, keep it secret) and NAME.cert.pem (certificate, to give away)."""
    key = folder / f"{check_name(name)}.pem"
    cert = certificate_path(key)
    if cert.exists():  # before anything is written
        raise LocalError(f"{cert}: exists already and is not overwritten")
    fingerprint = make(key, name, datetime.now(UTC))
    export_certificate(key, cert)
    print(f"{key}: key and certificate of {role.value} {name}, keep it on this host")
    print(f"{cert}: the certificate, SHA-256 {fingerprint}")
    print(f"next: {_NEXT[role].format(cert=cert)}")
