"""The one loop: events in, `core.handle(event, now)`, effects out to the outputs. Any core runs on it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from flashflow.model.clock import Now, TimerFired


class Core(Protocol):
    """A pure state machine."""

    def handle(self, event: Any, now: Now) -> Sequence[Any]:
        """Take one event in and give the effects in order; the sole mutator of the state."""
        ...

    def next_timer(self) -> float | None:
        """Monotonic time at which TimerFired is wanted, or None."""
        ...


def read_clocks() -> Now:
    """Both clocks, now."""
    return Now(time.monotonic(), time.time())


class Loop:
    """Runs one core on the running asyncio loop.

    An exception from the core or an output is a bug: `failed` carries it, and whoever awaits `run()` gets it.
    """

    def __init__(
        self,
        core: Core,
        outputs: Mapping[type, Callable[[Any], object]],
        clock: Callable[[], Now] = read_clocks,
    ) -> None:
        self._core = core
        self._outputs = outputs
        self._clock = clock
        self._queue: deque[Any] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._aio = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._aio.create_future()

    def post(self, event: object) -> None:
        """Hand `event` to the core; from the loop's own thread only. Re-entrant calls are queued, in order."""
        if self._ended.done():
            return
        self._queue.append(event)
        if not self._busy:
            self._drain()

    def stop(self) -> None:
        """End `run()` normally."""
        self._disarm()
        if not self._ended.done():
            self._ended.set_result(None)

    def fail(self, error: BaseException) -> None:
        """End `run()` with a bug."""
        self._disarm()
        if not self._ended.done():
            self._ended.set_exception(error)

    async def run(self) -> None:
        """Wait until stop(), or raise what fail() or the core gave."""
        await self._ended

    def _drain(self) -> None:
        self._busy = True
        try:
            while self._queue and not self._ended.done():
                for effect in self._core.handle(self._queue.popleft(), self._clock()):
                    self._outputs[type(effect)](effect)
        except Exception as error:  # noqa: BLE001 - a bug ends the process, with its traceback
            self.fail(error)
        finally:
            self._busy = False
        self._arm()

    def _arm(self) -> None:
        self._disarm()
        when = self._core.next_timer()
        if when is not None and not self._ended.done():
            delay = max(0.0, when - self._clock().mono_s)
            self._timer = self._aio.call_later(delay, self.post, TimerFired())

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
