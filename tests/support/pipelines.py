"""Pipelines for tests: started and always stopped, work that waits to be let go, and waits for conditions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Semaphore
from threading import enumerate as threads
from time import monotonic

from flashflow.pipeline.pipeline import Pipeline
from flashflow.pipeline.stages import PipelineSettings, Stage, StageSettings

WAIT_S = 20.0
"""Generous: a test that needs it has failed."""
QUICK = PipelineSettings(poll_s=0.05, join_timeout_s=WAIT_S)


def pool(workers: int = 1, bound: int = 100, tries: int = 1, retry_after_s: float = 0.0) -> StageSettings:
    return StageSettings(workers, bound, tries, retry_after_s)


@contextmanager
def running(
    *stages: Stage,
    stop: Event | None = None,
    settings: PipelineSettings = QUICK,
    name_of: Callable[..., str] = str,
) -> Iterator[Pipeline]:
    """A started pipeline; at the end it is stopped, and no thread of it may be left."""
    pipeline = Pipeline(stages, stop or Event(), settings, name_of)
    before = set(threads())
    try:
        pipeline.start()
        yield pipeline
    finally:
        pipeline.stop()
        left = {thread.name for thread in threads() if thread not in before}
        assert not {name for name in left if not name.startswith("asyncio")}, "a thread is left"


def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds."""
    end_s = monotonic() + WAIT_S
    pause = Event()
    while not condition():
        assert monotonic() < end_s, "it never came true"
        pause.wait(0.002)


class Gate:
    """Work that tells that it has begun, then waits until it is let go."""

    def __init__(self) -> None:
        self._begun = Semaphore(0)
        self.open = Event()
        self.ended: list[object] = []

    def __call__(self, item: object) -> object:
        self._begun.release()
        assert self.open.wait(WAIT_S)
        self.ended.append(item)
        return item

    def wait_begun(self, count: int = 1) -> None:
        """Wait until `count` more items are being worked on."""
        for _ in range(count):
            assert self._begun.acquire(timeout=WAIT_S)
