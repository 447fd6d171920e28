"""What the cores of the coordinator and of the measurer have to do with their Tor client, besides its `events`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TorCameUp:
    """The Tor client takes commands."""


@dataclass(frozen=True, slots=True)
class TorWasLost:
    """The Tor client, or the control connection to it, is gone; it is started again."""

    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class TorReplied:
    """The Tor client answered a command, or did not in time."""

    effect_id: int
    """That of the SendTorCommand."""
    ok: bool
    """It was answered with 250."""
    text: str
    """The reply's text, or why there is none."""


@dataclass(frozen=True, slots=True)
class SendTorCommand:
    """Send a line to the Tor client; TorReplied tells the outcome."""

    effect_id: int
    """Comes back in TorReplied."""
    line: str
    """The command; never logged, for it may hold a token."""
    timeout_s: float
    """After this without a reply it has failed."""
