"""FlashFlow's MEASUREMENT cells (proposal 316, 3.1.2 and 3.1.3), between coordinator or measurer and relay.

They are fixed-length cells on a circuit, not onion-encrypted, and advance no keystream. Byte 0 is the measure command;
all integers are big-endian; bytes behind the fields named here are ignored. Where the proposal leaves a field open or
too narrow, the choice is ours:

    PARAMS     version[1] meas_id[4] duration_s[2] n[1], n times: token[16] sockets[2] link specifier
    PARAMS_OK  (nothing)
    BG         second[2] sent_bytes[8] recv_bytes[8]     (4 bytes in the proposal end at 34 Gbit/s)
    ERR        code[1]
    JOIN       meas_id[4] token[16]                      (ours: the first cell on each measurer circuit)
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Final

from flashflow.orlink.cells import PAYLOAD_BYTES, CellError
from flashflow.orlink.extend import address_specifier, parse_specifier, specifier_address

VERSION: Final = 1
"""Version of the parameters that this code writes."""
MAX_DURATION_S: Final = 600
MAX_MEASURERS: Final = 10
TOKEN_BYTES: Final = 16


class MeasCommand(IntEnum):
    """Measure commands: 0 to 3 are the proposal's, 4 is ours."""

    PARAMS = 0
    PARAMS_OK = 1
    BG = 2
    ERR = 3
    JOIN = 4


class MeasErrCode(IntEnum):
    """Why a relay, or whoever measures it, ends a measurement; the proposal names only OTHER."""

    BAD_VERSION = 1
    BAD_PARAMS = 2
    NOT_TRUSTED = 3
    TOO_MANY = 4
    """The coordinator has used up its measurements of this period."""
    BUSY = 5
    """Another measurement is under way."""
    BAD_TOKEN = 6
    OTHER = 255


@dataclass(frozen=True, slots=True)
class MeasurerSpec:
    """One measurer that the relay shall expect."""

    token: bytes = field(repr=False)
    """Secret of this measurement and measurer, 16 bytes, which the measurer shows in MEAS_JOIN."""
    sockets: int
    """Connections, one circuit each, that it may open: 1 to 65535."""
    address: tuple[str, int]
    """IP address it comes from, and port (0: any)."""

    def encode(self) -> bytes:
        """Token, sockets and link specifier."""
        if len(self.token) != TOKEN_BYTES:
            raise ValueError(f"token of {len(self.token)} bytes: {TOKEN_BYTES} expected")
        return self.token + self.sockets.to_bytes(2, "big") + address_specifier(*self.address).encode()


@dataclass(frozen=True, slots=True)
class MeasParams:
    """Coordinator to relay: what is going to be measured, and by whom."""

    command: ClassVar[MeasCommand] = MeasCommand.PARAMS
    version: int
    """Version of this layout, 1."""
    meas_id: int
    """Measurement, 32 bits."""
    duration_s: int
    """Seconds to echo and report, warm-up included: 1 to 600."""
    measurers: tuple[MeasurerSpec, ...]
    """1 to 10 measurers."""

    def encode(self) -> bytes:
        """The payload, not padded. ValueError if a field is out of range or the whole exceeds a cell: a bug."""
        if not 1 <= self.duration_s <= MAX_DURATION_S or not 1 <= len(self.measurers) <= MAX_MEASURERS:
            raise ValueError(
                f"{self.duration_s} s, {len(self.measurers)} measurers: 1 to {MAX_DURATION_S} s and "
                f"1 to {MAX_MEASURERS} measurers expected"
            )
        head = bytes((self.command, self.version)) + self.meas_id.to_bytes(4, "big")
        head += self.duration_s.to_bytes(2, "big") + bytes((len(self.measurers),))
        payload = head + b"".join(measurer.encode() for measurer in self.measurers)
        if len(payload) > PAYLOAD_BYTES:
            raise ValueError(f"parameters of {len(payload)} bytes: at most {PAYLOAD_BYTES} fit into a cell")
        return payload


@dataclass(frozen=True, slots=True)
class MeasParamsOk:
    """Relay to coordinator: accepted."""

    command: ClassVar[MeasCommand] = MeasCommand.PARAMS_OK

    def encode(self) -> bytes:
        """The payload, not padded."""
        return bytes((self.command,))


@dataclass(frozen=True, slots=True)
class MeasBg:
    """Relay to coordinator, once a second: its background traffic in that second."""

    command: ClassVar[MeasCommand] = MeasCommand.BG
    second: int
    """Second of the measurement, from 1."""
    sent_bytes: int
    """Background cell bytes sent, 64 bits."""
    recv_bytes: int
    """Background cell bytes received, 64 bits."""

    def encode(self) -> bytes:
        """The payload, not padded."""
        counts = self.sent_bytes.to_bytes(8, "big") + self.recv_bytes.to_bytes(8, "big")
        return bytes((self.command,)) + self.second.to_bytes(2, "big") + counts


@dataclass(frozen=True, slots=True)
class MeasErr:
    """Either way: the measurement ends."""

    command: ClassVar[MeasCommand] = MeasCommand.ERR
    code: MeasErrCode
    """Why; a code that has no name here is read as OTHER."""

    def encode(self) -> bytes:
        """The payload, not padded."""
        return bytes((self.command, self.code))


@dataclass(frozen=True, slots=True)
class MeasJoin:
    """Measurer to relay, the first cell on a circuit: which measurement it belongs to."""

    command: ClassVar[MeasCommand] = MeasCommand.JOIN
    meas_id: int
    """Measurement, 32 bits."""
    token: bytes = field(repr=False)
    """The measurer's token, 16 bytes."""

    def encode(self) -> bytes:
        """The payload, not padded."""
        return bytes((self.command,)) + self.meas_id.to_bytes(4, "big") + self.token


Measurement = MeasParams | MeasParamsOk | MeasBg | MeasErr | MeasJoin


def parse_measurement(payload: bytes) -> Measurement:
    """Reads the payload of a MEASUREMENT cell. CellError if it is malformed or a field is out of range."""
    if not payload:
        raise CellError("MEASUREMENT cell: empty")
    parse = _PARSERS.get(payload[0])
    if parse is None:
        raise CellError(f"MEASUREMENT cell: measure command {payload[0]}, 0 to {max(MeasCommand)} expected")
    return parse(payload)


def _parse_params(payload: bytes) -> MeasParams:
    _check_size(payload, 9)
    duration_s, count = _integer(payload, 6, 2), payload[8]
    if not 1 <= duration_s <= MAX_DURATION_S:
        raise CellError(f"MEAS_PARAMS: duration {duration_s} s, 1 to {MAX_DURATION_S} expected")
    if not 1 <= count <= MAX_MEASURERS:
        raise CellError(f"MEAS_PARAMS: {count} measurers, 1 to {MAX_MEASURERS} expected")
    measurers: list[MeasurerSpec] = []
    start = 9
    for _ in range(count):
        measurer, start = _parse_measurer(payload, start)
        measurers.append(measurer)
    return MeasParams(payload[1], _integer(payload, 2, 4), duration_s, tuple(measurers))


def _parse_measurer(payload: bytes, start: int) -> tuple[MeasurerSpec, int]:
    _check_size(payload, start + 18)
    specifier, end = parse_specifier(payload, start + 18)
    address = specifier_address(specifier)
    if address is None:
        raise CellError(f"MEAS_PARAMS: link specifier of type {specifier.type}, an address expected")
    sockets = _integer(payload, start + 16, 2)
    if sockets == 0:
        raise CellError("MEAS_PARAMS: a measurer of 0 sockets, at least 1 expected")
    return MeasurerSpec(payload[start : start + 16], sockets, address), end


def _parse_params_ok(_payload: bytes) -> MeasParamsOk:
    return MeasParamsOk()


def _parse_bg(payload: bytes) -> MeasBg:
    _check_size(payload, 19)
    return MeasBg(_integer(payload, 1, 2), _integer(payload, 3, 8), _integer(payload, 11, 8))


def _parse_err(payload: bytes) -> MeasErr:
    _check_size(payload, 2)
    try:
        return MeasErr(MeasErrCode(payload[1]))
    except ValueError:
        return MeasErr(MeasErrCode.OTHER)


def _parse_join(payload: bytes) -> MeasJoin:
    _check_size(payload, 21)
    return MeasJoin(_integer(payload, 1, 4), payload[5:21])


_PARSERS: Final[dict[int, Callable[[bytes], Measurement]]] = {
    MeasCommand.PARAMS: _parse_params,
    MeasCommand.PARAMS_OK: _parse_params_ok,
    MeasCommand.BG: _parse_bg,
    MeasCommand.ERR: _parse_err,
    MeasCommand.JOIN: _parse_join,
}


def _integer(payload: bytes, start: int, size_bytes: int) -> int:
    return int.from_bytes(payload[start : start + size_bytes], "big")


def _check_size(payload: bytes, size_bytes: int) -> None:
    if len(payload) < size_bytes:
        raise CellError(f"MEASUREMENT cell: {len(payload)} bytes, at least {size_bytes} expected")
