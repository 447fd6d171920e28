"""What comes out of torclient's core."""

from dataclasses import dataclass

from flashflow.torclient.core.messages import ToWorker
from flashflow.torctl import events


@dataclass(frozen=True, slots=True)
class Answer:
    """Reply to a command."""

    conn: int
    """The control connection that gave it."""
    code: int
    """Status code."""
    text: str
    """The rest of the line."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Send an asynchronous event to every connection that asked for its kind."""

    event: events.Event
    """The event."""


@dataclass(frozen=True, slots=True)
class TellWorker:
    """Send a message to a worker."""

    worker: int
    """Index of the worker."""
    message: ToWorker
    """What to tell it."""


@dataclass(frozen=True, slots=True)
class Log:
    """Write one line to the log."""

    text: str
    """The line."""


Effect = Answer | Announce | TellWorker | Log
