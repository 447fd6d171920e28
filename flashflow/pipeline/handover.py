"""Work of a last stage: give each item to somebody else, and wait for what comes of it."""

from collections.abc import Callable
from threading import Event, Lock
from time import monotonic
from typing import Any

from flashflow.model.errors import LocalError
from flashflow.pipeline.stages import WorkInterruptedError


class Outcome:
    """Where the receiver says what came of an item. The first word counts; what comes late changes nothing."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ended = Event()
        self._value: object = None
        self._error: Exception | None = None

    def succeed(self, value: object = None) -> bool:
        """The item is done; `value` goes on. False if nobody waits any more."""
        return self._end(value, None)

    def fail(self, reason: str) -> bool:
        """It went wrong: a failed try. False if nobody waits any more."""
        return self._end(None, LocalError(reason))

    def is_awaited(self) -> bool:
        """Whether somebody still waits for it."""
        return not self._ended.is_set()

    def wait(self, stop: Event, timeout_s: float, poll_s: float) -> object:
        """The value. Raises WorkInterruptedError at the stop, LocalError after the time-out and if it failed."""
        end_s = monotonic() + timeout_s
        while not self._ended.wait(max(0.0, min(poll_s, end_s - monotonic()))):
            if stop.is_set():
                self._end(None, WorkInterruptedError())
            elif monotonic() >= end_s:
                self._end(None, LocalError(f"no outcome within {timeout_s:g} s"))
        if self._error is not None:
            raise self._error
        return self._value

    def _end(self, value: object, error: Exception | None) -> bool:
        with self._lock:
            if self._ended.is_set():
                return False
            self._value, self._error = value, error
            self._ended.set()
            return True


class HandOver:
    """A stage's work: `post` gets the item and its Outcome, on the worker's thread, and must not wait."""

    def __init__(
        self,
        post: Callable[[Any, Outcome], None],
        stop: Event,
        *,
        timeout_s: float,
        poll_s: float = 0.5,
    ) -> None:
        """`timeout_s` 0: nobody waits, and what is handed over is done."""
        self._post = post
        self._stop = stop
        self._timeout_s = timeout_s
        self._poll_s = poll_s

    def __call__(self, item: object) -> object:
        """Hand one item over; returns the outcome's value."""
        outcome = Outcome()
        self._post(item, outcome)
        if not self._timeout_s:
            return None
        return outcome.wait(self._stop, self._timeout_s, self._poll_s)
