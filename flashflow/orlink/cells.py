"""Link cells and how they are read from a byte stream (tor-spec 3)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from flashflow.model.errors import PeerError
from flashflow.model.units import CELL_BYTES, PAYLOAD_BYTES

__all__ = [
    "CELL_BYTES",
    "MAX_VARIABLE_BYTES",
    "PAYLOAD_BYTES",
    "Cell",
    "CellError",
    "CellReader",
    "Command",
    "MeasCommands",
    "command_name",
    "encode_cell",
    "is_variable",
]

MAX_VARIABLE_BYTES: Final = 65_535
"""Longest payload that a variable-length cell's 2-byte length field can announce."""


class CellError(PeerError):
    """A peer's cell is not well-formed."""


class Command(IntEnum):
    """Cell commands of the link (tor-spec 3), and the two that FlashFlow adds by default."""

    PADDING = 0
    CREATE = 1
    CREATED = 2
    RELAY = 3
    DESTROY = 4
    CREATE_FAST = 5
    CREATED_FAST = 6
    VERSIONS = 7
    NETINFO = 8
    RELAY_EARLY = 9
    CREATE2 = 10
    CREATED2 = 11
    PADDING_NEGOTIATE = 12
    MEASUREMENT = 40
    MEAS_ECHO = 41
    VPADDING = 128
    CERTS = 129
    AUTH_CHALLENGE = 130
    AUTHENTICATE = 131
    AUTHORIZE = 132


@dataclass(frozen=True, slots=True)
class MeasCommands:
    """Cell commands used for measuring: proposal 316 assigns none, so they are settings on both sides."""

    measurement: int = Command.MEASUREMENT
    """Command of MEASUREMENT cells: 13 to 127, fixed-length and not one of Tor's."""
    echo: int = Command.MEAS_ECHO
    """Command of MEAS_ECHO cells: 13 to 127, another one."""

    def __post_init__(self) -> None:
        for number in (self.measurement, self.echo):
            if not Command.PADDING_NEGOTIATE < number < Command.VPADDING:
                raise ValueError(
                    f"cell command {number}: 13 to 127 expected, the numbers that Tor leaves free"
                )
        if self.measurement == self.echo:
            raise ValueError(f"cell command {self.echo}: MEASUREMENT and MEAS_ECHO need two numbers")


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell as it travels on a link."""

    circ_id: int
    """Circuit on this link; 0 where the cell concerns the link itself."""
    command: int
    """Command byte, which need not be one that `Command` names."""
    payload: bytes
    """Payload: 509 bytes if the cell was read and is of fixed length, up to 509 if it is to be encoded."""


def command_name(command: int) -> str:
    """The command as words for an error line: `NETINFO`, or `command 77`."""
    try:
        return Command(command).name
    except ValueError:
        return f"command {command}"


def is_variable(command: int) -> bool:
    """Whether cells of this command carry a length (tor-spec 3, link protocol 3 and higher)."""
    return command == Command.VERSIONS or command >= 128


def encode_cell(cell: Cell, circ_id_bytes: int = 4) -> bytes:
    """The cell as bytes; a fixed-length one is padded with zeros. ValueError if it does not fit: that is a bug."""
    head = cell.circ_id.to_bytes(circ_id_bytes, "big") + bytes((cell.command,))
    size = len(cell.payload)
    if is_variable(cell.command):
        return head + size.to_bytes(2, "big") + cell.payload
    if size > PAYLOAD_BYTES:
        raise ValueError(
            f"{command_name(cell.command)} cell: payload of {size} bytes, at most {PAYLOAD_BYTES} fit"
        )
    return head + cell.payload.ljust(PAYLOAD_BYTES, b"\0")


class CellReader:
    """Cuts a byte stream into cells.

    `circ_id_bytes` is 2 until a version is negotiated and 4 afterwards (link protocol 4 and higher); assigning it
    changes how the bytes not yet decoded are read, also those that have been fed already.
    """

    __slots__ = ("_buffer", "_max_variable_bytes", "_start", "circ_id_bytes")

    def __init__(self, circ_id_bytes: int = 4, max_variable_bytes: int = MAX_VARIABLE_BYTES) -> None:
        self.circ_id_bytes = circ_id_bytes
        self._max_variable_bytes = max_variable_bytes
        self._buffer = bytearray()
        self._start = 0  # a moving start: deleting each cell from the front would copy the rest every time

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Adds bytes that arrived. Call `next` until it gives None, so that only half a cell is ever kept."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def next(self) -> Cell | None:
        """The next whole cell, or None until more arrives. CellError if a variable-length cell is over the cap."""
        command_at = self._start + self.circ_id_bytes
        if len(self._buffer) <= command_at:
            return None
        command = self._buffer[command_at]
        body_at = command_at + 1
        size = PAYLOAD_BYTES
        if is_variable(command):
            body_at += 2
            if len(self._buffer) < body_at:
                return None
            size = int.from_bytes(self._buffer[body_at - 2 : body_at], "big")
            self._check_size(command, size)
        if len(self._buffer) < body_at + size:
            return None
        circ_id = int.from_bytes(self._buffer[self._start : command_at], "big")
        self._start = body_at + size
        return Cell(circ_id, command, bytes(memoryview(self._buffer)[body_at : self._start]))

    def rest(self) -> bytes:
        """Takes all undecoded bytes away, for a switch to whole-buffer reading (`bulk`)."""
        rest = bytes(memoryview(self._buffer)[self._start :])
        self._buffer.clear()
        self._start = 0
        return rest

    def _check_size(self, command: int, size: int) -> None:
        if size > self._max_variable_bytes:
            limit = self._max_variable_bytes
            raise CellError(f"{command_name(command)} cell: {size} bytes announced, at most {limit} expected")
