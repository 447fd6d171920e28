"""Names of things: relay fingerprints, measurement ids, addresses."""

import ipaddress
import re
from typing import Literal, NamedTuple, NewType

from flashflow.model.errors import UsageError

Fingerprint = NewType("Fingerprint", str)
"""A relay's RSA identity digest: 40 upper-case hex digits, no `$`."""

MeasId = NewType("MeasId", int)
"""A measurement's id, 1..2^32-1, unique among those in work."""

Mode = Literal["echo", "loop"]
"""How a relay is measured: with its help (proposal 316), or as it is, by circuits that lead through it."""

_FINGERPRINT = re.compile(r"\$?([0-9A-Fa-f]{40})")


def parse_fingerprint(text: str) -> Fingerprint:
    """The fingerprint in `text` (`$` allowed, any case). Raises UsageError."""
    found = _FINGERPRINT.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"not a relay fingerprint: {text[:60]!r} (expected 40 hex digits)")
    return Fingerprint(found.group(1).upper())


class Address(NamedTuple):
    """Where something listens."""

    host: str
    """An IP address or, in configuration only, a host name; without brackets."""
    port: int
    """1..65535 (0 in configuration: any free port)."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """`host:port` or `[v6]:port`. Raises UsageError."""
    host, colon, port = text.strip().rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not _is_host(bare) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise UsageError(f"not an address: {text[:80]!r} (expected host:port or [IPv6]:port)")
    if (":" in bare) != (bare != host) or (bare != host and not _is_ipv6(bare)):
        raise UsageError(f"not an address: {text[:80]!r} (an IPv6 address goes in brackets)")
    return Address(bare, int(port))


def _is_host(text: str) -> bool:
    """Whether it can be an address or a host name at all, for the resolver raises what it likes."""
    try:
        return text.isprintable() and bool(text.encode("idna"))
    except UnicodeError:
        return False


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
