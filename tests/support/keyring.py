"""Keys of a coordinator and measurers in a folder, laid out as on their hosts."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from flashflow.keys import keygen
from flashflow.keys.certificates import export_certificate


class Keyring:
    """`coord/` is the coordinator's key directory; each measurer has a folder of its name."""

    def __init__(self, root: Path, *measurers: str) -> None:
        self.root = root
        self.coord_key = root / "coord" / "coord.pem"
        keygen(self.coord_key, "coord", datetime.now(UTC))
        export_certificate(self.coord_key, root / "coord" / "coord.cert.pem")
        for name in measurers:
            self.add(name)

    @property
    def coord_dir(self) -> Path:
        """Where the coordinator looks for measurers' certificates."""
        return self.coord_key.parent

    @property
    def coord_cert(self) -> Path:
        """The certificate that measurers are given."""
        return self.coord_dir / "coord.cert.pem"

    def key(self, name: str) -> Path:
        """A measurer's key file."""
        return self.root / name / f"{name}.pem"

    def add(self, name: str, *, known: bool = True, age: timedelta = timedelta(0)) -> Path:
        """Make a measurer's key; `known` gives its certificate to the coordinator."""
        keygen(self.key(name), name, datetime.now(UTC) - age)
        if known:
            export_certificate(self.key(name), self.coord_dir / f"{name}.cert.pem")
        return self.key(name)
