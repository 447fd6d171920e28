"""What can be read of a pipeline: items set aside, items handed back, counters."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SetAside:
    """An item that was given up."""

    stage: str
    """Where."""
    item: object
    """As it came to that stage."""
    name: str
    """What the item was called when it was put in."""
    reason: str
    """What the last try came to, in one line."""
    tries: int
    """How often that stage worked on it."""


@dataclass(frozen=True, slots=True)
class HandedBack:
    """An item that the pipeline was stopped before it was through."""

    stage: str
    """Which stage has not done it yet."""
    item: object
    """As it came to that stage."""
    name: str
    """What the item was called when it was put in."""
    tries: int
    """How often that stage worked on it."""
    in_work: bool
    """Whether a worker still had it, which had not ended in time: its work may yet have an effect."""


@dataclass(frozen=True, slots=True)
class StageCounts:
    """entered = passed + set_aside + handed_back + waiting + in_work, at every moment."""

    entered: int
    """Items that came in."""
    passed: int
    """Items worked on and gone on, or through."""
    failed: int
    """Tries that ended with an exception."""
    retried: int
    """Failures after which the item got another try."""
    set_aside: int
    """Items given up."""
    handed_back: int
    """Items returned at the stop."""
    waiting: int
    """Items in the queue, also for another try."""
    in_work: int
    """Items that a worker has."""
