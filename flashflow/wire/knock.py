"""The first bytes of a connection to the coordinator: is it a measurer's, before TLS costs anything?

A measurer's ClientHello carries a server name (RFC 6066, section 3) made of a fresh nonce and an HMAC under both sides'
certificates. The coordinator tells by it whom to let in while strangers flood it: a client certificate is encrypted in
TLS 1.3, so only who was given the measurer's certificate can make the name. It admits to nothing but the handshake,
which still has to prove the key; who copies a name from the wire is let in ahead of other strangers, once.
"""

import hmac
from collections import deque
from collections.abc import Iterable
from typing import Final

from flashflow.model.errors import PeerError

NONCE_BYTES: Final = 16
_MAC_HEX: Final = 32
_DOMAIN: Final = "flashflow.invalid"
_LABEL: Final = b"flashflow-knock-v1"
REMEMBERED: Final = 4096
"""Names that were used are refused so many names long."""
_HANDSHAKE: Final = 0x16
_CLIENT_HELLO: Final = 1
_SERVER_NAME: Final = 0
RECORD_HEADER_BYTES: Final = 5
MAX_RECORD_BYTES: Final = 16_384
"""Longest body of a TLS record in plaintext (RFC 8446, section 5.1)."""


def knock(measurer: str, coordinator: str, nonce: bytes) -> str:
    """The server name by which the measurer shows itself; both certificates are named by their SHA-256 in hex."""
    return f"{nonce.hex()}.{_mac(measurer, coordinator, nonce)}.{_DOMAIN}"


class Doorkeeper:
    """Knows the measurers by their knocks; each knock counts once."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._order: deque[str] = deque()

    def who(self, name: str, measurers: Iterable[str], coordinator: str) -> str | None:
        """Which of the measurers' certificates the server name is made with, or None."""
        parts = name.split(".", 2)
        if len(parts) != 3 or parts[2] != _DOMAIN or len(parts[0]) != 2 * NONCE_BYTES or name in self._used:
            return None
        try:
            nonce = bytes.fromhex(parts[0])
        except ValueError:
            return None
        mac = parts[1].encode()
        for measurer in measurers:
            if hmac.compare_digest(mac, _mac(measurer, coordinator, nonce).encode()):
                self._remember(name)
                return measurer
        return None

    def _remember(self, name: str) -> None:
        self._used.add(name)
        self._order.append(name)
        if len(self._order) > REMEMBERED:
            self._used.discard(self._order.popleft())


def record_bytes(data: bytes) -> int | None:
    """Length of the TLS record that `data` begins with, or None while that cannot be told.

    Raises PeerError if it is no handshake record.
    """
    if data and data[0] != _HANDSHAKE:
        raise PeerError("does not speak TLS")
    if len(data) < RECORD_HEADER_BYTES:
        return None
    length = int.from_bytes(data[3:RECORD_HEADER_BYTES], "big")
    if not 0 < length <= MAX_RECORD_BYTES:
        raise PeerError(f"TLS record of {length} bytes (expected 1 to {MAX_RECORD_BYTES})")
    return RECORD_HEADER_BYTES + length


def server_name(record: bytes) -> str | None:
    """The server name in the ClientHello that the record holds (RFC 8446, section 4.1.2); None if there is none.

    Never raises: what is no ClientHello, or is cut off, has no name.
    """
    try:
        return _server_name(_Cursor(record[RECORD_HEADER_BYTES:]))
    except (EOFError, UnicodeDecodeError):
        return None


def _server_name(hello: "_Cursor") -> str | None:
    if hello.number(1) != _CLIENT_HELLO:
        return None
    hello.take(3 + 2 + 32)  # length, version, random
    for size in (1, 2, 1):  # session id, cipher suites, compression methods
        hello.take(hello.number(size))
    extensions = _Cursor(hello.take(hello.number(2)))
    while extensions.left:
        kind, body = extensions.number(2), _Cursor(extensions.take(extensions.number(2)))
        if kind != _SERVER_NAME:
            continue
        names = _Cursor(body.take(body.number(2)))
        return names.take(names.number(2)).decode("ascii") if names.number(1) == 0 else None
    return None


class _Cursor:
    """Reads fields in order; EOFError where there is less than a field needs."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise EOFError
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")


def _mac(measurer: str, coordinator: str, nonce: bytes) -> str:
    key = bytes.fromhex(measurer) + bytes.fromhex(coordinator)
    return hmac.digest(key, _LABEL + nonce, "sha256").hex()[:_MAC_HEX]
