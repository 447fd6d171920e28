"""The NETINFO cell (tor-spec 4.5)."""

import ipaddress
from dataclasses import dataclass
from typing import Final

from flashflow.orlink.cells import CellError

_LENGTHS: Final = {4: 4, 6: 16}


@dataclass(frozen=True, slots=True)
class NetInfo:
    """What each side says about time and addresses; nothing of it is proven."""

    time_utc_s: int
    """The sender's clock, seconds since the epoch; clients send 0."""
    other_ip: str | None
    """Where the sender sees the other side; None if it names no usable address."""
    own_ips: tuple[str, ...]
    """The sender's own addresses; a client names none."""

    def encode(self) -> bytes:
        """The payload, not padded."""
        other = _encode_ip(self.other_ip or "0.0.0.0")
        own = b"".join(_encode_ip(ip) for ip in self.own_ips)
        return self.time_utc_s.to_bytes(4, "big") + other + bytes((len(self.own_ips),)) + own


def parse_netinfo(payload: bytes) -> NetInfo:
    """Reads a NETINFO payload. CellError if it is cut short; addresses of unknown form are left out."""
    other, start = _parse_ip(payload, 4)
    if len(payload) <= start:
        raise CellError("NETINFO cell: cut short")
    own: list[str] = []
    count, start = payload[start], start + 1
    for _ in range(count):
        ip, start = _parse_ip(payload, start)
        if ip is not None:
            own.append(ip)
    return NetInfo(int.from_bytes(payload[:4], "big"), other, tuple(own))


def _encode_ip(ip: str) -> bytes:
    packed = ipaddress.ip_address(ip).packed
    return bytes((4 if len(packed) == 4 else 6, len(packed))) + packed


def _parse_ip(payload: bytes, start: int) -> tuple[str | None, int]:
    body_at = start + 2
    if len(payload) < body_at or len(payload) < body_at + payload[start + 1]:
        raise CellError("NETINFO cell: cut short")
    end = body_at + payload[start + 1]
    if _LENGTHS.get(payload[start]) != end - body_at:
        return None, end
    return str(ipaddress.ip_address(payload[body_at:end])), end
