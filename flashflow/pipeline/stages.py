"""What a pipeline is made of, and what work may raise to say more than "failed"."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from flashflow.model.errors import FlashFlowError, UsageError


def _check(name: str, value: float, lowest: float) -> None:
    if not lowest <= value < float("inf"):
        raise UsageError(f"pipeline: {name}: expected a number of at least {lowest}, got {value}")


@dataclass(frozen=True, slots=True)
class StageSettings:
    """How one stage works."""

    workers: int = 2
    """Threads that share the stage's items."""
    queue_bound: int = 100
    """Items that wait at most; whoever brings more has to wait. Retried ones may stand above it, one a worker."""
    tries: int = 3
    """How often an item is worked on before it is set aside."""
    retry_after_s: float = 1.0
    """From a failure to the next try; other items come first."""

    def __post_init__(self) -> None:
        _check("workers", self.workers, 1)
        _check("queue_bound", self.queue_bound, 1)
        _check("tries", self.tries, 1)
        _check("retry_after_s", self.retry_after_s, 0)


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """What all stages have in common."""

    poll_s: float = 0.5
    """Longest wait between two looks at the stop event, for whoever waits for an item or for space."""
    join_timeout_s: float = 30.0
    """How long a stop waits for the threads, all in all."""
    kept_set_aside: int = 1000
    """Items set aside that are kept to be read, the newest."""

    def __post_init__(self) -> None:
        _check("poll_s", self.poll_s, 0.001)
        _check("join_timeout_s", self.join_timeout_s, 0)
        _check("kept_set_aside", self.kept_set_aside, 0)


@dataclass(frozen=True, slots=True)
class Source:
    """What brings a stage its items, again and again."""

    task: Callable[[], Iterable[object]]
    """Returns the items of one round; if it raises, none of them is put in."""
    every_s: float = 5.0
    """Pause between the end of a round and the next; a stop ends it at once."""

    def __post_init__(self) -> None:
        _check("every_s", self.every_s, 0.001)


@dataclass(frozen=True, slots=True)
class Stage:
    """One pool of workers."""

    name: str
    """Its workers are called `<name> 0`, `<name> 1`, …"""
    work: Callable[[Any], object]
    """Takes an item; what it returns goes on to the next stage, if there is one."""
    settings: StageSettings = field(default_factory=StageSettings)
    """How it works."""
    then: str | None = None
    """The stage that takes what comes out of this one; None: the items are through."""
    source: Source | None = None
    """What brings items here; None: a stage before, or `Pipeline.put`."""


def check_stages(stages: tuple[Stage, ...]) -> None:
    """Raise UsageError unless names are unique and items only go forwards, so that no stage waits for itself."""
    names = [stage.name for stage in stages]
    if not names:
        raise UsageError("pipeline: expected at least one stage")
    for number, stage in enumerate(stages):
        if stage.name in names[:number]:
            raise UsageError(f"pipeline: two stages are called {stage.name!r}")
        if stage.then is not None and stage.then not in names[number + 1 :]:
            raise UsageError(f"pipeline: {stage.name}: expected a later stage, got {stage.then!r}")


class ItemRefusedError(FlashFlowError):
    """Raised by work: the item is not wanted; it is set aside at once, with this reason."""


class WorkInterruptedError(Exception):
    """Raised by work that the stop event ended early: the item is handed back."""
