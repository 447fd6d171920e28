"""What to do: everything that the core asks of the outputs."""

import logging
from dataclasses import dataclass

from flashflow.model.ids import Fingerprint
from flashflow.torctl.client import SendTorCommand
from flashflow.wire.messages import Message


@dataclass(frozen=True, slots=True)
class SendToCoordinator:
    """Queue a message for the coordinator."""

    message: Message
    """The message."""


@dataclass(frozen=True, slots=True)
class StartFarEnd:
    """Start a far end for one relay; FarEndReady or FarEndEnded tells the outcome."""

    effect_id: int
    """Comes back in these events, and stands in StopFarEnd."""
    relay: Fingerprint
    """The only relay that may connect to it."""
    relay_host: str
    """That relay's IP address."""


@dataclass(frozen=True, slots=True)
class StopFarEnd:
    """End a far end at once; no event follows."""

    effect_id: int
    """That of the StartFarEnd."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell whoever started the process that it is ready."""


@dataclass(frozen=True, slots=True)
class Log:
    """Write a line to the log."""

    level: int
    """A level of the logging module."""
    text: str
    """One line without secrets."""


@dataclass(frozen=True, slots=True)
class StopService:
    """Nothing runs any more: end the process."""


Effect = SendToCoordinator | SendTorCommand | StartFarEnd | StopFarEnd | Announce | Log | StopService


def info(text: str) -> Log:
    """A line of level INFO."""
    return Log(logging.INFO, text)


def warn(text: str) -> Log:
    """A line of level WARNING."""
    return Log(logging.WARNING, text)
