"""Where the coordinator listens and the cookie that opens it."""

from dataclasses import dataclass
from pathlib import Path

from flashflow.ctrl.protocol import COOKIE_BYTES
from flashflow.model.errors import LocalError, UsageError
from flashflow.model.ids import Address, parse_address

DEFAULT_CONFIG = Path("coord.conf")
"""Read where the command line names neither a configuration nor an address."""


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to speak to a coordinator."""

    address: Address
    """Its control socket."""
    cookie_file: Path
    """The file that holds the cookie, which the coordinator writes when it starts."""

    def cookie(self) -> bytes:
        """The 32 bytes of the cookie. Raises LocalError."""
        try:
            with self.cookie_file.open("rb") as file:
                cookie = file.read(COOKIE_BYTES + 1)
        except OSError as error:
            raise LocalError(
                f"{self.cookie_file}: cannot read the coordinator's cookie: {error.strerror}"
                f" (it is written when flashflow coord starts)"
            ) from None
        if len(cookie) != COOKIE_BYTES:
            found = f"{len(cookie)} bytes" if len(cookie) < COOKIE_BYTES else "more"
            raise LocalError(f"{self.cookie_file}: expected a cookie of {COOKIE_BYTES} bytes, found {found}")
        return cookie


def find_access(config: Path | None, addr: str | None, cookie: Path | None) -> Access:
    """Address and cookie from the options of the command line. Raises UsageError."""
    if addr is not None and cookie is not None:
        return Access(parse_address(addr), cookie)
    if config is None and not DEFAULT_CONFIG.exists():
        raise UsageError(
            "where is the coordinator? Expected --config coord.conf, or both --addr and --cookie"
        )
    from flashflow.config.coord import load_coord  # pydantic is slow to import and not needed with --addr

    loaded = load_coord(config or DEFAULT_CONFIG)
    return Access(parse_address(addr) if addr else loaded.ctrl_coord_addr, cookie or loaded.ctrl_cookie)
