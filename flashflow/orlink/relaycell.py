"""What a RELAY cell's payload carries once it is decrypted (tor-spec 6.1)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from flashflow.orlink.cells import PAYLOAD_BYTES, CellError

HEADER_BYTES: Final = 11
"""Command (1), recognized (2), stream (2), digest (4), length (2)."""
MAX_DATA_BYTES: Final = PAYLOAD_BYTES - HEADER_BYTES
"""Most data in one relay cell: 498."""


class RelayCommand(IntEnum):
    """Relay commands (tor-spec 6.1), those that FlashFlow may meet."""

    BEGIN = 1
    DATA = 2
    END = 3
    CONNECTED = 4
    SENDME = 5
    EXTEND = 6
    EXTENDED = 7
    TRUNCATE = 8
    TRUNCATED = 9
    DROP = 10
    RESOLVE = 11
    RESOLVED = 12
    BEGIN_DIR = 13
    EXTEND2 = 14
    EXTENDED2 = 15
    PADDING_NEGOTIATE = 41
    PADDING_NEGOTIATED = 42
    XOFF = 43
    XON = 44


@dataclass(frozen=True, slots=True)
class RelayCell:
    """A decrypted relay cell."""

    command: int
    """Relay command, which need not be one that `RelayCommand` names."""
    stream_id: int
    """Stream on this circuit; 0 where the cell concerns the circuit."""
    data: bytes
    """Up to 498 bytes."""

    def encode(self) -> bytes:
        """The payload of 509 bytes, recognized and digest fields zero. ValueError if the data do not fit: a bug."""
        size = len(self.data)
        if size > MAX_DATA_BYTES:
            raise ValueError(f"relay cell: {size} bytes of data, at most {MAX_DATA_BYTES} fit")
        head = (
            bytes((self.command, 0, 0))
            + self.stream_id.to_bytes(2, "big")
            + bytes(4)
            + size.to_bytes(2, "big")
        )
        return (head + self.data).ljust(PAYLOAD_BYTES, b"\0")


def parse_relay_cell(payload: bytes) -> RelayCell:
    """Reads a decrypted payload of 509 bytes. CellError if it is cut short or its length field is too large."""
    if len(payload) != PAYLOAD_BYTES:
        raise CellError(f"relay cell: {len(payload)} bytes, {PAYLOAD_BYTES} expected")
    size = int.from_bytes(payload[9:11], "big")
    if size > MAX_DATA_BYTES:
        raise CellError(f"relay cell: {size} bytes of data announced, at most {MAX_DATA_BYTES} fit")
    data = payload[HEADER_BYTES : HEADER_BYTES + size]
    return RelayCell(payload[0], int.from_bytes(payload[3:5], "big"), data)


def sendme_data(digest: bytes) -> bytes:
    """Data of an authenticated circuit SENDME (tor-spec 7.3.1, version 1).

    `digest` is the running digest, 20 bytes, at the DATA cell that made the SENDME due (`ClientHop.backward_digest`
    right after that cell was decrypted).
    """
    return b"\x01" + len(digest).to_bytes(2, "big") + digest
