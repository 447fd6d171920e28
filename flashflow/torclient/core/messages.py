"""Messages between the control process and a worker: JSON arrays of the class name and its fields.

Both ends are ours and of one version, so a message that does not decode is a bug and raises.
"""

import json
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Final

from flashflow.model.network import CEILING


@dataclass(frozen=True, slots=True)
class OpenCircuits:
    """To a worker: open circuits of a measurement, each on its own connection."""

    run: int
    """Run of a measurement: unlike its id, never used twice by this process."""
    meas_id: int
    """The measurement's id, for MEAS_JOIN."""
    circ_ids: tuple[int, ...]
    """Ids of the circuits, one connection each."""
    host: str
    """The relay's IP address."""
    port: int
    """Its OR port."""
    fingerprint: str
    """Its RSA identity, 40 hex digits."""
    ed25519: str
    """Its ed25519 identity, hex."""
    ntor: str
    """Its ntor onion key, hex."""
    token: str
    """The measurer's token, hex; empty in loop mode."""
    bucket_cells: int
    """One cell in so many is checked."""
    far_ends: tuple[str, ...] = ()
    """Where the relay extends circuits to, as FAREND= has it, in turn by circuit; empty in echo mode."""


@dataclass(frozen=True, slots=True)
class Begin:
    """To a worker: send on its built circuits of a measurement."""

    run: int
    """Run of a measurement: unlike its id, never used twice by this process."""
    circ_ids: tuple[int, ...]
    """The circuits to use, and such as are opened later; any other is closed."""
    start_mono_s: float
    """CLOCK_MONOTONIC at which traffic begins, the same for all workers."""
    warmup_s: float
    """Seconds before second 1."""
    dur_s: int
    """Seconds to report."""
    rate_bytes: float | None
    """This worker's share of the rate, cell bytes/s; None: as fast as it goes."""
    circuit_cells: int = CEILING.circuit_cells
    """Most cells outstanding on a circuit."""


@dataclass(frozen=True, slots=True)
class Halt:
    """To a worker: close everything of a measurement, at once, without a word."""

    run: int
    """Run of a measurement: unlike its id, never used twice by this process."""


@dataclass(frozen=True, slots=True)
class OpenCoord:
    """To a worker: open the coordinator's own circuit and send MEAS_PARAMS."""

    run: int
    """Run of a measurement: unlike its id, never used twice by this process."""
    circ_id: int
    """Id of the circuit."""
    host: str
    """The relay's IP address."""
    port: int
    """Its OR port."""
    fingerprint: str
    """Its RSA identity, 40 hex digits."""
    ed25519: str
    """Its ed25519 identity, hex."""
    ntor: str
    """Its ntor onion key, hex."""
    params: str
    """Payload of the MEAS_PARAMS cell, hex."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """From a worker, first of all: it has started."""


@dataclass(frozen=True, slots=True)
class CircuitBuilt:
    """From a worker: a circuit's keys are agreed with the relay that was expected."""

    run: int
    """Run of a measurement: unlike its id, never used twice by this process."""
    circ_id: int
    """Circuit."""


@dataclass(frozen=True, slots=True)
class CreateRepeated:
    """From a worker: the relay refused a circuit, and was asked for it once more."""

    run: int
    """Run of a measurement: unlike its id, never used twice by this process."""
    circ_id: int
    """Circuit."""


@dataclass(frozen=True, slots=True)
class CircuitEnded:
    """From a worker: a circuit could not be built, or was closed by the relay or the network."""

    run: int
    """Run of a measurement: unlike its id, never used twice by this process."""
    circ_id: int
    """Circuit."""
    reason: str
    """A Reason."""
    detail: str
    """One line for the log."""


@dataclass(frozen=True, slots=True)
class SecondCounted:
    """From a worker: one second of its share is over; the last one comes after the final check."""

    run: int
    """Run of a measurement: unlike its id, never used twice by this process."""
    second: int
    """1..duration."""
    sent_bytes: int
    """Cell bytes sent."""
    recv_bytes: int
    """Cell bytes that came back."""


@dataclass(frozen=True, slots=True)
class ShareEnded:
    """From a worker: its share of a measurement is over, and its circuits are closed."""

    run: int
    """Run of a measurement: unlike its id, never used twice by this process."""
    reason: str | None
    """A Reason if it failed."""
    detail: str
    """One line for the log."""


@dataclass(frozen=True, slots=True)
class ParamsWereSent:
    """From a worker: MEAS_PARAMS went out."""

    run: int
    """Run of a measurement: unlike its id, never used twice by this process."""


@dataclass(frozen=True, slots=True)
class ParamsAnswered:
    """From a worker: the relay answered MEAS_PARAMS."""

    run: int
    """Run of a measurement: unlike its id, never used twice by this process."""
    reason: str | None
    """None if it accepted, else a Reason."""


@dataclass(frozen=True, slots=True)
class BackgroundCounted:
    """From a worker: a MEAS_BG cell came."""

    run: int
    """Run of a measurement: unlike its id, never used twice by this process."""
    second: int
    """As the relay numbers it."""
    sent_bytes: int
    """Background cell bytes the relay says it sent."""
    recv_bytes: int
    """Background cell bytes the relay says it received."""


ToWorker = OpenCircuits | Begin | Halt | OpenCoord
FromWorker = (
    CircuitBuilt
    | CreateRepeated
    | CircuitEnded
    | SecondCounted
    | ShareEnded
    | ParamsWereSent
    | ParamsAnswered
    | BackgroundCounted
)
Message = ToWorker | FromWorker | WorkerReady

_CLASSES: Final[dict[str, Callable[..., Message]]] = {
    kind.__name__: kind
    for kind in (
        OpenCircuits,
        Begin,
        Halt,
        OpenCoord,
        WorkerReady,
        CircuitBuilt,
        CreateRepeated,
        CircuitEnded,
        SecondCounted,
        ShareEnded,
        ParamsWereSent,
        ParamsAnswered,
        BackgroundCounted,
    )
}
_LENGTH_BYTES: Final = 4


def encode_frame(message: Message) -> bytes:
    """The message with its length in front."""
    body = json.dumps([type(message).__name__, *astuple(message)]).encode()
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class FrameReader:
    """Cuts a stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> list[Message]:
        """The messages that are complete with `data`."""
        self._buffer += data
        found: list[Message] = []
        while len(self._buffer) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
            if len(self._buffer) < end:
                break
            found.append(_decode(self._buffer[_LENGTH_BYTES:end]))
            del self._buffer[:end]
        return found


def _decode(body: bytearray) -> Message:
    name, *fields = json.loads(body)
    return _CLASSES[name](*(tuple(value) if isinstance(value, list) else value for value in fields))
