"""The threads of all stages, from start to stop."""

import logging
from collections.abc import Callable, Iterator
from threading import Event, Thread
from time import monotonic
from typing import Any

from flashflow.model.errors import LocalError
from flashflow.pipeline.outcomes import HandedBack, SetAside, StageCounts
from flashflow.pipeline.queues import Queues
from flashflow.pipeline.stages import PipelineSettings, Stage, check_stages
from flashflow.pipeline.workers import run_source, run_worker

LOG = logging.getLogger(__name__)


class Pipeline:
    """Stages that share a stop event, which others may set too. All methods may be called from any thread.

    `stop` always has to be called in the end, since it returns the items that are left, and never by work or a source,
    since it waits for them. An event loop calls what waits (`put`, `wait_done`, `stop`) in a thread.
    """

    def __init__(
        self,
        stages: tuple[Stage, ...],
        stop: Event,
        settings: PipelineSettings | None = None,
        name_of: Callable[[Any], str] = str,
    ) -> None:
        """`name_of` says what an item is called in the log. Raises UsageError if the stages do not fit together."""
        check_stages(stages)
        self._settings = settings or PipelineSettings()
        self._first = stages[0].name
        self._stop = stop
        self._queues = Queues(stages, self._settings, stop, name_of)
        self._threads = [thread for stage in stages for thread in self._threads_of(stage)]

    def _threads_of(self, stage: Stage) -> Iterator[Thread]:
        # They are daemons so that work that hangs cannot keep the process from ending.
        if (source := stage.source) is not None:
            arguments = (stage.name, source, self._queues, self._stop)
            yield Thread(target=run_source, args=arguments, name=stage.name, daemon=True)
        for number in range(stage.settings.workers):
            name = f"{stage.name} {number}"
            yield Thread(target=run_worker, args=(stage, self._queues, self._stop), name=name, daemon=True)

    def start(self) -> None:
        """Start every thread. Raises LocalError if one cannot be started: the stop event is set then."""
        for thread in self._threads:
            LOG.debug("Thread %s starting", thread.name)
            try:
                thread.start()
            except RuntimeError as error:
                self._stop.set()
                raise LocalError(f"pipeline: thread {thread.name} could not be started: {error}") from error

    def put(self, item: object, *, stage: str | None = None, timeout_s: float | None = None) -> bool:
        """Put an item in at the first stage or at `stage`, once there is space.

        False if it is not in: there was no space within the time-out, or the pipeline stops.
        """
        return self._queues.put(stage or self._first, item, timeout_s)

    def wait_done(self, timeout_s: float) -> bool:
        """Wait until everything put in is through or set aside; False after the time-out or at the stop."""
        return self._queues.wait_empty(timeout_s)

    def counts(self) -> dict[str, StageCounts]:
        """Each stage's counters by its name, all of the same moment."""
        return self._queues.counts()

    def set_aside(self) -> tuple[SetAside, ...]:
        """The items set aside, the oldest first; only the newest are kept."""
        return self._queues.set_aside()

    def stop(self) -> tuple[HandedBack, ...]:
        """Let every worker finish the item that it has, wait for the threads, and hand back all other items.

        Work that goes on beyond the time-out is left behind: its item is handed back, and what it returns is dropped.
        """
        self._stop.set()
        self._queues.wake()
        end_s = monotonic() + self._settings.join_timeout_s
        for thread in self._threads:
            if thread.ident is None:  # never started, which join would not forgive
                continue
            thread.join(max(0.0, end_s - monotonic()))
            if thread.is_alive():
                LOG.error("Thread %s is still busy and is left behind", thread.name)
            else:
                LOG.debug("Thread %s finished", thread.name)
        return self._queues.close()
