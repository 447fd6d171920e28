"""What is to be done. Links and circuits are numbers."""

from dataclasses import dataclass
from enum import StrEnum

from flashflow.orlink.meas import MeasErr, MeasParamsOk


class Role(StrEnum):
    """What a link is to the relay."""

    STRANGER = "stranger"  # anybody: its traffic is background
    COORDINATOR = "coordinator"  # whose measurement is under way
    MEASURER = "measurer"  # it has joined that measurement
    TARGET = "target"  # a far end's: the relay that is measured


class Close(StrEnum):
    """How a link is closed."""

    FLUSH = "flush"  # what is buffered is sent first
    DROP = "drop"  # what is buffered is dropped


@dataclass(frozen=True, slots=True)
class SaveAccepted:
    """Remember over a restart which measurements were accepted."""

    accepted: dict[bytes, tuple[float, ...]]
    """Coordinator's certificate (SHA-256) -> when, monotonic, oldest first."""


@dataclass(frozen=True, slots=True)
class SendMeasurement:
    """Send a MEASUREMENT cell."""

    link: int
    """Link to send on."""
    circ: int
    """Circuit to send on."""
    message: MeasParamsOk | MeasErr
    """What it says."""


@dataclass(frozen=True, slots=True)
class ReportBackground:
    """Send MEAS_BG with what was counted since the last one."""

    link: int
    """The coordinator's link."""
    circ: int
    """The coordinator's circuit."""
    second: int
    """Second of the measurement, from 1."""


@dataclass(frozen=True, slots=True)
class SetRole:
    """A link is now this to us."""

    link: int
    """The link."""
    role: Role
    """Its role."""


@dataclass(frozen=True, slots=True)
class BeginMeasuring:
    """The measurement runs: count background anew, and cap it."""


@dataclass(frozen=True, slots=True)
class EndMeasuring:
    """No measurement is under way any more: lift the cap."""

    reason: str
    """Why, for the log."""


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Close a link."""

    link: int
    """The link."""
    how: Close
    """What becomes of buffered cells."""
    reason: str
    """Why, for the log."""


Effect = (
    SaveAccepted | SendMeasurement | ReportBackground | SetRole | BeginMeasuring | EndMeasuring | CloseLink
)
