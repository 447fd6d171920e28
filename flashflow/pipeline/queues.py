"""The bounded queues of all stages, and the account of where every item is.

One lock for all of them, unlike one `queue.Queue` for each stage: an item moves from one place to the next in a single
step, so none is ever nowhere or at two places, whenever the stop comes. Nobody's code runs while the lock is held.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Condition, Event, Lock
from time import monotonic
from typing import Any

from flashflow.pipeline.outcomes import HandedBack, SetAside, StageCounts
from flashflow.pipeline.stages import PipelineSettings, Stage, StageSettings


class _Queue:
    """One stage's items."""

    def __init__(self, stage: Stage, lock: Lock) -> None:
        self.name = stage.name
        self.then = stage.then
        self.settings: StageSettings = stage.settings
        self.waiting: deque[Job] = deque()
        self.in_work: set[Job] = set()
        self.ready = Condition(lock)  # an item waits
        self.space = Condition(lock)  # one more may wait
        self.entered = self.passed = self.failed = self.retried = self.set_aside = self.handed_back = 0

    def is_full(self) -> bool:
        return len(self.waiting) >= self.settings.queue_bound

    def add(self, job: "Job") -> None:
        self.waiting.append(job)
        self.ready.notify()

    def counts(self) -> StageCounts:
        return StageCounts(
            self.entered,
            self.passed,
            self.failed,
            self.retried,
            self.set_aside,
            self.handed_back,
            len(self.waiting),
            len(self.in_work),
        )


@dataclass(slots=True, eq=False)
class Job:
    """An item at one stage."""

    item: Any
    """As it came to the stage."""
    name: str
    """What it is called, from its entry to its end."""
    queue: _Queue
    """The stage."""
    tries: int = 0
    """Tries begun here."""
    due_s: float = 0.0
    """Not to be tried before this monotonic time."""


class Queues:
    """Where every item is. All methods may be called from any thread."""

    def __init__(
        self,
        stages: tuple[Stage, ...],
        settings: PipelineSettings,
        stop: Event,
        name_of: Callable[[Any], str],
    ) -> None:
        self._lock = Lock()
        self._queues = {stage.name: _Queue(stage, self._lock) for stage in stages}
        self._poll_s = settings.poll_s
        self._stop = stop
        self._closed = False
        self._name_of = name_of
        self._set_aside: deque[SetAside] = deque(maxlen=settings.kept_set_aside)
        self._left = Condition(self._lock)  # the last item has left, or the stop has come

    def put(self, stage: str, item: object, timeout_s: float | None) -> bool:
        """Put an item in, once there is space; False, and it is not in, after the time-out or at the stop."""
        job = Job(item, self._name_of(item), self._queues[stage])
        with self._lock:
            end_s = None if timeout_s is None else monotonic() + timeout_s
            if not self._wait_for_space(job.queue, end_s):
                return False
            self._enter(job)
            return True

    def put_all(self, stage: str, items: Iterable[object]) -> bool:
        """Put all items in as there is space, or at the stop without regard to it; False once all is closed."""
        queue = self._queues[stage]
        for job in [Job(item, self._name_of(item), queue) for item in items]:
            with self._lock:
                self._wait_for_space(queue, None)
                if self._closed:
                    return False
                self._enter(job)
        return True

    def take(self, stage: str) -> Job | None:
        """The next item that is due, now in work; None at the stop, or if none comes for a while."""
        queue = self._queues[stage]
        end_s = monotonic() + self._poll_s
        with self._lock:
            while not self._is_ending():
                now_s = monotonic()
                for job in queue.waiting:
                    if job.due_s <= now_s:
                        return self._begin(job)
                if now_s >= end_s:
                    break
                wake_s = min([end_s, *(job.due_s for job in queue.waiting)])
                queue.ready.wait(wake_s - now_s)
        return None

    def passed(self, job: Job, result: object) -> None:
        """The work is done: its result goes on as soon as there is space, at the stop in any case."""
        queue = job.queue
        then = None if queue.then is None else self._queues[queue.then]
        with self._lock:
            if then is not None:
                self._wait_for_space(then, None)
            if self._end(job):
                queue.passed += 1
                if then is not None:
                    self._enter(Job(result, job.name, then))
                self._tell_if_empty()

    def failed(self, job: Job, reason: str) -> SetAside | None:
        """The work raised: the item waits for another try, or is set aside, which is returned."""
        queue = job.queue
        with self._lock:
            if not self._end(job):
                return None
            queue.failed += 1
            if job.tries >= queue.settings.tries:
                return self._give_up(job, reason)
            queue.retried += 1
            job.due_s = monotonic() + queue.settings.retry_after_s
            queue.add(job)
            return None

    def refused(self, job: Job, reason: str) -> None:
        """The item is not wanted: it is set aside."""
        with self._lock:
            if self._end(job):
                self._give_up(job, reason)

    def interrupted(self, job: Job) -> None:
        """The stop ended the work early: the item waits as if not tried."""
        with self._lock:
            if self._end(job):
                job.tries -= 1
                job.queue.add(job)

    def counts(self) -> dict[str, StageCounts]:
        """Each stage's counters, all of the same moment."""
        with self._lock:
            return {name: queue.counts() for name, queue in self._queues.items()}

    def set_aside(self) -> tuple[SetAside, ...]:
        """The items set aside, the oldest first."""
        with self._lock:
            return tuple(self._set_aside)

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until no item waits or is in work; False after the time-out or at the stop."""
        end_s = monotonic() + timeout_s
        with self._lock:
            while not self._is_empty():
                left_s = end_s - monotonic()
                if left_s <= 0 or self._is_ending():
                    return False
                self._left.wait(min(left_s, self._poll_s))
            return True

    def wake(self) -> None:
        """Have everyone who waits look at the stop event."""
        with self._lock:
            for queue in self._queues.values():
                queue.ready.notify_all()
                queue.space.notify_all()
            self._left.notify_all()

    def close(self) -> tuple[HandedBack, ...]:
        """Hand back every item that waits or is in work; from now on nothing comes in or moves."""
        found = []
        with self._lock:
            self._closed = True
            for queue in self._queues.values():
                for job in (*queue.in_work, *queue.waiting):
                    in_work = job in queue.in_work
                    found.append(HandedBack(queue.name, job.item, job.name, job.tries, in_work))
                queue.handed_back += len(queue.in_work) + len(queue.waiting)
                queue.in_work.clear()
                queue.waiting.clear()
        self.wake()
        return tuple(found)

    # The lock is held in everything below.

    def _is_ending(self) -> bool:
        return self._closed or self._stop.is_set()

    def _is_empty(self) -> bool:
        return not any(queue.waiting or queue.in_work for queue in self._queues.values())

    def _wait_for_space(self, queue: _Queue, end_s: float | None) -> bool:
        while not self._is_ending():
            if not queue.is_full():
                return True
            left_s = self._poll_s if end_s is None else min(self._poll_s, end_s - monotonic())
            if left_s <= 0:
                return False
            queue.space.wait(left_s)
        return False

    def _enter(self, job: Job) -> None:
        job.queue.entered += 1
        job.queue.add(job)

    def _begin(self, job: Job) -> Job:
        job.tries += 1
        job.queue.waiting.remove(job)
        job.queue.in_work.add(job)
        job.queue.space.notify()
        return job

    def _end(self, job: Job) -> bool:
        """Take the item out of work; False if it was handed back, and is no longer the worker's."""
        if job not in job.queue.in_work:
            return False
        job.queue.in_work.remove(job)
        return True

    def _give_up(self, job: Job, reason: str) -> SetAside:
        job.queue.set_aside += 1
        aside = SetAside(job.queue.name, job.item, job.name, reason, job.tries)
        self._set_aside.append(aside)
        self._tell_if_empty()
        return aside

    def _tell_if_empty(self) -> None:
        if self._is_empty():
            self._left.notify_all()
