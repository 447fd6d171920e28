"""What coordinator and measurer say to each other: messages, and the session's envelopes around them.

Every field is bounded; unknown fields and types are refused. `parse_message` and `parse_envelope` raise PeerError only.
"""

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from flashflow.model.errors import ErrorKind, PeerError, UsageError
from flashflow.model.ids import parse_address
from flashflow.model.network import CEILING, LEAST_CELLS

PROTOCOL_VERSION = 1
MAX_REASON_CHARS = 400

# Failure codes, named as the original FlashFlow named them where they mean the same.
LAUNCH_CIRCS = "LAUNCH_CIRCS"
MALFORMED_TOR_RESP = "MALFORMED_TOR_RESP"
M_DUPE_MEAS_ID = "M_DUPE_MEAS_ID"
M_UNKNOWN_MEAS_ID = "M_UNKNOWN_MEAS_ID"
M_START_ACTIVE_MEAS = "M_START_ACTIVE_MEAS"
RATE_EXCEEDED = "RATE_EXCEEDED"
TARGET_NOT_ALLOWED = "TARGET_NOT_ALLOWED"
MODE_NOT_SUPPORTED = "MODE_NOT_SUPPORTED"
MEASUREMENT_FAILED = "MEASUREMENT_FAILED"
ECHO_FORGED = "ECHO_FORGED"
TOR_CLIENT_LOST = "TOR_CLIENT_LOST"
DRAINING = "DRAINING"
FAILURE_TEXTS = {
    LAUNCH_CIRCS: "could not build enough circuits to the relay",
    MALFORMED_TOR_RESP: "the Tor client's answer cannot be understood",
    M_DUPE_MEAS_ID: "the measurer already has a measurement of this id",
    M_UNKNOWN_MEAS_ID: "the measurer has no measurement of this id",
    M_START_ACTIVE_MEAS: "the measurer's Tor client could not start sending",
    RATE_EXCEEDED: "more than the measurer's own max_rate",
    TARGET_NOT_ALLOWED: "the relay's address is not in the measurer's allowed_networks",
    MODE_NOT_SUPPORTED: "the measurer does not do this mode",
    MEASUREMENT_FAILED: "the measurement failed",
    ECHO_FORGED: "the relay was caught forging cells",
    TOR_CLIENT_LOST: "the measurer's Tor client is not running",
    DRAINING: "the measurer is shutting down",
}
"""Failure code -> what it means, in words."""


def one_line(text: object) -> str:
    """`text` on one line of printable characters, at most 400 of them."""
    cleaned = "".join(char if char.isprintable() else " " for char in str(text))
    return " ".join(cleaned.split())[:MAX_REASON_CHARS]


def _address(text: str) -> str:
    try:
        parse_address(text)
    except UsageError as error:
        raise ValueError(error.reason) from None
    return text


def _base64_key(text: str) -> str:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None
    if len(raw) != 32:
        raise ValueError("expected 32 bytes in base64")
    return text


MeasIdField = Annotated[int, Field(ge=1, le=2**32 - 1)]
ByteCount = Annotated[int, Field(ge=0, le=2**50)]
RateBytes = Annotated[int, Field(ge=1, le=2**40)]
Key32 = Annotated[str, Field(max_length=64), AfterValidator(_base64_key)]
Reason = Annotated[str, BeforeValidator(one_line)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Epoch = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Sequence = Annotated[int, Field(ge=1, le=2**53)]
Ack = Annotated[int, Field(ge=0, le=2**53)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LoopLimits(_Wire):
    """How the relays of a network may be treated in loop mode, by its consensus: see `model.network.NetworkLimits`."""

    connections: Annotated[int, Field(ge=1, le=CEILING.connections)] = CEILING.connections
    """Most connections at once, a circuit on each."""
    connections_burst: Annotated[int, Field(ge=1, le=CEILING.connections_burst)] = CEILING.connections_burst
    """Connections that may be opened at one moment."""
    connections_per_s: Annotated[float, Field(gt=0, le=CEILING.connections_per_s)] = CEILING.connections_per_s
    """Connections that may be opened a second after that."""
    circuits_burst: Annotated[int, Field(ge=1, le=CEILING.circuits_burst)] = CEILING.circuits_burst
    """Circuits that may be created at one moment."""
    circuits_per_s: Annotated[float, Field(gt=0, le=CEILING.circuits_per_s)] = CEILING.circuits_per_s
    """Circuits that may be created a second after that."""
    circuit_cells: Annotated[int, Field(ge=LEAST_CELLS, le=CEILING.circuit_cells)] = CEILING.circuit_cells
    """Most cells outstanding on a circuit."""


class ConnectToRelay(_Wire):
    """Coordinator: open circuits to this relay, for this measurement."""

    type: Literal["ConnectToRelay"] = "ConnectToRelay"
    meas_id: MeasIdField
    """Measurement id."""
    fp: Annotated[str, Field(pattern=r"^[0-9A-F]{40}$")]
    """The relay's RSA fingerprint, 40 upper-case hex digits."""
    n_circs: Annotated[int, Field(ge=1, le=160)]
    """Circuits to open, each on its own connection in echo mode."""
    dur_s: Annotated[int, Field(ge=1, le=600)]
    """Seconds to measure, after the warm-up."""
    warmup_s: Annotated[int, Field(ge=0, le=600)]
    """Seconds of traffic before second 1."""
    rate_bytes: RateBytes
    """This measurer's share of the rate, cell bytes/s."""
    mode: Literal["echo", "loop"]
    """How the relay is measured."""
    relay_addr: Annotated[str, Field(max_length=300), AfterValidator(_address)]
    """The relay's OR port, `host:port` or `[v6]:port`."""
    ed25519: Key32
    """The relay's ed25519 identity, base64 of 32 bytes."""
    ntor: Key32
    """The relay's ntor onion key, base64 of 32 bytes."""
    token: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", repr=False)]
    """Secret by which the relay knows this measurer in this measurement, 16 bytes in hex; never logged."""
    limits: LoopLimits | None = None
    """Loop mode: what this measurer may do to the relay; None: as the live network has it."""


class ConnectedToRelay(_Wire):
    """Measurer: enough circuits are built."""

    type: Literal["ConnectedToRelay"] = "ConnectedToRelay"
    meas_id: MeasIdField
    """Measurement id."""
    n_circs: Annotated[int, Field(ge=1, le=160)]
    """Circuits built."""


class Go(_Wire):
    """Coordinator: start sending."""

    type: Literal["Go"] = "Go"
    meas_id: MeasIdField
    """Measurement id."""


class Stop(_Wire):
    """Coordinator: end this measurement now."""

    type: Literal["Stop"] = "Stop"
    meas_id: MeasIdField
    """Measurement id."""
    reason: Reason
    """Why, one line."""


class BwReport(_Wire):
    """Measurer: one second's count."""

    type: Literal["BwReport"] = "BwReport"
    meas_id: MeasIdField
    """Measurement id."""
    second: Annotated[int, Field(ge=1, le=600)]
    """1..dur_s."""
    sent_bytes: ByteCount
    """Cell bytes sent in that second."""
    recv_bytes: ByteCount
    """Verified cell bytes received in that second."""


class Failure(_Wire):
    """Either side: this measurement (or, without an id, this side) failed."""

    type: Literal["Failure"] = "Failure"
    meas_id: MeasIdField | None
    """Measurement id, or None where it concerns no single one."""
    code: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,39}$")]
    """One of FAILURE_TEXTS, or a code of a newer version."""
    kind: Annotated[ErrorKind, Field(strict=False)]
    """Whose fault, as the sender sees it."""
    reason: Reason
    """One line."""


Message = ConnectToRelay | ConnectedToRelay | Go | Stop | BwReport | Failure
"""What the applications say; the session carries it in Data."""


class Hello(_Wire):
    """First frame of a measurer on a connection."""

    type: Literal["hello"] = "hello"
    version: Annotated[int, Field(ge=1, le=2**16)]
    """PROTOCOL_VERSION of the sender."""
    name: Name
    """O= of the sender's certificate."""
    capacity_bytes: RateBytes
    """The most that this measurer sends, cell bytes/s."""
    epoch: Epoch
    """Random, 16 bytes in hex, drawn when the sender's process began."""
    peer_epoch: Epoch | None
    """The coordinator's epoch of the session to resume; None for a first session."""
    received: Ack
    """Last sequence number taken over in that session."""


class Welcome(_Wire):
    """The coordinator's answer to Hello."""

    type: Literal["welcome"] = "welcome"
    version: Annotated[int, Field(ge=1, le=2**16)]
    """PROTOCOL_VERSION of the sender."""
    name: Name
    """O= of the coordinator's certificate."""
    epoch: Epoch
    """Random, 16 bytes in hex; the one named in Hello's peer_epoch if the session is resumed."""
    received: Ack
    """Last sequence number taken over in this session; 0 in a new one."""


class Data(_Wire):
    """A message with its number in the session."""

    type: Literal["data"] = "data"
    seq: Sequence
    """1, 2, 3 … in each direction of a session."""
    ack: Ack
    """Last sequence number of the other direction that was taken over."""
    message: dict[str, Any]
    """The message; checked apart, so that a bad one is denied without ending the connection."""


class Heartbeat(_Wire):
    """Sent once a second when there is nothing else to send, and whenever an acknowledgement is due."""

    type: Literal["heartbeat"] = "heartbeat"
    ack: Ack
    """Last sequence number that was taken over."""


class Denial(_Wire):
    """What was received is refused; without a number the connection is closed after it."""

    type: Literal["denial"] = "denial"
    seq: Sequence | None
    """The Data refused, which counts as taken over; None for anything else."""
    reason: Reason
    """One line."""


Envelope = Hello | Welcome | Data | Heartbeat | Denial
"""What a frame holds."""

_MESSAGES: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])
_ENVELOPES: TypeAdapter[Envelope] = TypeAdapter(Annotated[Envelope, Field(discriminator="type")])


def parse_message(fields: dict[str, Any]) -> Message:
    """The message in Data.message. Raises PeerError."""
    try:
        return _MESSAGES.validate_python(fields)
    except ValidationError as error:
        raise PeerError(f"message refused: {_first_problem(error)}") from None


def parse_envelope(body: bytes) -> Envelope:
    """The envelope in a frame's body. Raises PeerError for bad UTF-8, bad JSON, unknown or wrong fields."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PeerError(f"frame is not UTF-8 (byte {error.start})") from None
    try:
        return _ENVELOPES.validate_json(body)
    except ValidationError as error:
        raise PeerError(f"frame refused: {_first_problem(error)}") from None


def encode_envelope(envelope: Envelope) -> bytes:
    """A frame's body."""
    return envelope.model_dump_json().encode("utf-8")


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return one_line(f"{where}: {first['msg']}" if where else first["msg"])[:200]
