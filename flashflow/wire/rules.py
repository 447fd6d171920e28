"""What a session goes by: its two sides, the phases of a connection, what may be received in each, times and sizes."""

from dataclasses import dataclass
from enum import Enum, auto

from flashflow.wire.messages import (
    BwReport,
    ConnectedToRelay,
    ConnectToRelay,
    Data,
    Denial,
    Failure,
    Go,
    Heartbeat,
    Hello,
    Stop,
    Welcome,
)


class Role(Enum):
    """Which side this is."""

    COORDINATOR = auto()
    MEASURER = auto()


class Phase(Enum):
    """Of the present connection."""

    DOWN = auto()  # there is none
    GREETING = auto()  # waiting for the peer's Hello or Welcome
    OPEN = auto()
    CLOSING = auto()  # a LinkClosed was given: what is received now is dropped


LEGAL_MESSAGES: dict[Role, tuple[type, ...]] = {
    Role.COORDINATOR: (ConnectedToRelay, BwReport, Failure),
    Role.MEASURER: (ConnectToRelay, Go, Stop, Failure),
}
"""Role -> the messages that it may receive."""
LEGAL_ENVELOPES: dict[tuple[Role, Phase], tuple[type, ...]] = {
    (Role.COORDINATOR, Phase.GREETING): (Hello, Denial),
    (Role.MEASURER, Phase.GREETING): (Welcome, Denial),
    (Role.COORDINATOR, Phase.OPEN): (Data, Heartbeat, Denial),
    (Role.MEASURER, Phase.OPEN): (Data, Heartbeat, Denial),
}
"""What may be received, by role and phase."""


RESUME_S = 5.0
"""A session goes on if its measurer comes back within so long after a connection was lost."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Times and sizes."""

    heartbeat_s: float = 1.0
    """Something is sent at least this often."""
    missed: int = 3
    """Heartbeats missed after which the peer counts as closed."""
    greeting_s: float = 5.0
    """Longest wait for Hello or Welcome."""
    buffer_messages: int = 1024
    """Most messages that wait for an acknowledgement."""
    ack_s: float = 5.0
    """Longest wait for an acknowledgement on a connection that is up: then a new one is made, and it is sent again."""
    tries: int = 4
    """On so many connections a message is sent; never acknowledged on any of them, the session is given up."""


@dataclass(frozen=True, slots=True)
class SessionFigures:
    """What a session did so far, over all its connections."""

    phase: str
    """Of the present connection."""
    connections: int
    """Connections on which both sides had greeted."""
    pending: int
    """Messages not acknowledged yet."""
    waits_s: float
    """How long the oldest of them was sent on this connection without an acknowledgement, seconds."""
    delivered: int
    """Messages that the peer took over."""
    resent: int
    """Messages sent once more, on another connection."""
    not_delivered: int
    """Messages given up: refused, no room, or the session ended."""
    received: int
    """Messages of the peer."""
    repeated: int
    """Messages of the peer that had come before, and were not delivered again."""
    denied: int
    """Messages of the peer that were refused."""
