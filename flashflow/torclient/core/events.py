"""What goes into torclient's core; `flashflow.model.clock.TimerFired` does too."""

from dataclasses import dataclass

from flashflow.torclient.core.messages import FromWorker
from flashflow.torctl.commands import Command


@dataclass(frozen=True, slots=True)
class CommandReceived:
    """A controller gave one of our commands."""

    conn: int
    """The control connection, which gets the reply and owns what it begins."""
    command: Command
    """The command, well-formed."""


@dataclass(frozen=True, slots=True)
class ControlClosed:
    """A control connection is gone."""

    conn: int
    """The connection."""


@dataclass(frozen=True, slots=True)
class WorkerSpoke:
    """A worker sent a message."""

    worker: int
    """Index of the worker."""
    message: FromWorker
    """What it said."""


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """A worker process ended without being told to; another one takes its place."""

    worker: int
    """Index of the worker."""
