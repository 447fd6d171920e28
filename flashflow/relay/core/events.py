"""What happened, as far as a measurement is concerned. Links and circuits are numbers."""

from dataclasses import dataclass, field

from flashflow.model.clock import TimerFired
from flashflow.orlink.meas import MeasParams

__all__ = [
    "CircuitGone",
    "EchoBegan",
    "ErrReceived",
    "Event",
    "JoinReceived",
    "LinkLost",
    "ParamsReceived",
    "TimerFired",
]


@dataclass(frozen=True, slots=True)
class ParamsReceived:
    """Somebody wants a measurement (MEAS_PARAMS)."""

    link: int
    """Link it came on."""
    circ: int
    """Circuit it came on."""
    certificate: bytes | None
    """SHA-256 of the TLS client certificate; None if there was none."""
    params: MeasParams | None
    """None if the cell was malformed."""


@dataclass(frozen=True, slots=True)
class JoinReceived:
    """A measurer shows its token (MEAS_JOIN)."""

    link: int
    """Link it came on."""
    circ: int
    """Circuit it came on."""
    host: str
    """IP address of the other side."""
    first: bool
    """It was the first cell on its circuit, and that the only circuit of its link."""
    meas_id: int
    """Measurement that is joined."""
    token: bytes = field(repr=False)
    """16 bytes."""


@dataclass(frozen=True, slots=True)
class EchoBegan:
    """The first MEAS_ECHO cell of a link that has joined."""

    link: int
    """Link it came on."""


@dataclass(frozen=True, slots=True)
class ErrReceived:
    """The other side gives up (MEAS_ERR)."""

    link: int
    """Link it came on."""


@dataclass(frozen=True, slots=True)
class LinkLost:
    """A link is closed, by whomever."""

    link: int
    """The link."""


@dataclass(frozen=True, slots=True)
class CircuitGone:
    """The other side destroyed a circuit."""

    link: int
    """Its link."""
    circ: int
    """The circuit."""


Event = ParamsReceived | JoinReceived | EchoBegan | ErrReceived | LinkLost | CircuitGone | TimerFired
