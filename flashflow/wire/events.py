"""What a session tells its shell: frozen, past tense."""

from dataclasses import dataclass

from flashflow.wire.messages import Message


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer greeted us."""

    peer_name: str
    """Its name."""
    capacity_bytes: int
    """A measurer's capacity, cell bytes/s; 0 for the coordinator."""
    resumed: bool
    """The session goes on; else it is a new one and the old one's measurements are unknown to the peer."""


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message to take over; call take_over(seq) once that is done."""

    seq: int
    """Its number."""
    message: Message
    """The message."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The peer took a message over."""

    ticket: int
    """What send() gave."""


@dataclass(frozen=True, slots=True)
class NotDelivered:
    """A message will not be sent again."""

    ticket: int
    """What send() gave."""
    message: Message
    """The message."""
    certain: bool
    """The peer surely has not acted on it; else the link was lost before it acknowledged."""
    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class MessageDenied:
    """We refused a message of the peer; the connection goes on."""

    seq: int
    """Its number."""
    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The connection must be closed after data_to_send() was written."""

    reason: str
    """One line."""
    by_peer: bool
    """The peer broke the rules or denied us; else time ran out."""


SessionEvent = Opened | MessageReceived | Delivered | NotDelivered | MessageDenied | LinkClosed
