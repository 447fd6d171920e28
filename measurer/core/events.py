"""What happened: everything that the core hears of, besides torctl's events and TimerFired."""

from dataclasses import dataclass

from flashflow.torctl.commands import FarEnd
from flashflow.wire.messages import Message


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The session with the coordinator is live."""

    host: str
    """The coordinator's address."""
    resumed: bool
    """The session goes on; else the coordinator knows nothing of earlier measurements."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The session's connection was lost; it is being made again."""

    reason: str
    """One line."""
    heard_mono_s: float
    """When the coordinator was last heard, monotonic seconds."""


@dataclass(frozen=True, slots=True)
class LinkFailed:
    """An attempt to reach the coordinator failed."""

    reason: str
    """One line: what and what to do."""
    retry_s: float
    """The next attempt comes after this long."""


@dataclass(frozen=True, slots=True)
class CoordinatorSaid:
    """The coordinator sent a message."""

    message: Message
    """Any well-formed message, perhaps one that it may not send now."""


@dataclass(frozen=True, slots=True)
class FarEndReady:
    """A far end listens."""

    effect_id: int
    """That of the StartFarEnd."""
    far_ends: tuple[FarEnd, ...]
    """Its identities, one or more."""


@dataclass(frozen=True, slots=True)
class FarEndEnded:
    """A far end could not be started, or it ended without having been told to."""

    effect_id: int
    """That of the StartFarEnd."""
    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The first signal: finish what runs, take nothing new, then end."""
