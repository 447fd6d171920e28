"""A reading of both clocks, passed into every core, which has none."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Now:
    """One moment."""

    mono_s: float
    """Monotonic clock, seconds: for durations and deadlines."""
    utc_s: float
    """Unix time, seconds: for what is stored and shown."""


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The moment that a core's next_timer() named has come."""
