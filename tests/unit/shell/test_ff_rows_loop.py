"""The one loop: order, timers, and that a bug ends it with its exception."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from flashflow.model.clock import Now, TimerFired
from flashflow.shell.loop import Loop
from flashflow.shell.tasks import TaskGroupOfNamed


@dataclass
class Recorder:
    """A core that keeps what it heard; `react` gives the effects."""

    react: Callable[[object], Sequence[object]] = lambda event: ()
    heard: list[object] = field(default_factory=list)
    timer_s: float | None = None

    def handle(self, event: Any, now: Now) -> Sequence[Any]:
        self.heard.append(event)
        return self.react(event)

    def next_timer(self) -> float | None:
        return self.timer_s


async def test_a_bug_in_the_core_ends_the_run_with_its_exception() -> None:
    def react(event: object) -> Sequence[object]:
        raise RuntimeError(f"no handler for {event}")

    loop = Loop(Recorder(react), {})
    loop.post("x")
    loop.post("y")
    with pytest.raises(RuntimeError, match="no handler for x"):
        await loop.run()


async def test_a_bug_in_an_output_ends_the_run_too() -> None:
    def broken(effect: int) -> None:
        raise ZeroDivisionError

    loop = Loop(Recorder(lambda event: [1]), {int: broken})
    loop.post("x")
    with pytest.raises(ZeroDivisionError):
        await loop.run()


async def test_an_output_that_answers_at_once_is_heard_after_the_effects_before_it() -> None:
    core = Recorder(lambda event: [1, 2] if event == "x" else [])
    loop = Loop(core, {int: lambda effect: loop.post(f"done {effect}")})
    loop.post("x")
    assert core.heard == ["x", "done 1", "done 2"]
    loop.stop()
    await loop.run()
    loop.post("too late")
    assert len(core.heard) == 3


async def test_the_core_is_woken_when_it_asked_to_be() -> None:
    core = Recorder()
    loop = Loop(core, {int: lambda effect: loop.stop()}, clock=lambda: Now(7.0, 1e9))
    core.timer_s = 6.0  # past: at once
    core.react = lambda event: [1] if isinstance(event, TimerFired) else []
    loop.post("x")
    await loop.run()
    assert core.heard == ["x", TimerFired()]


async def test_a_task_that_fails_is_never_lost() -> None:
    bugs: list[BaseException] = []
    tasks = TaskGroupOfNamed(bugs.append)

    async def broken() -> None:
        raise KeyError("bug")

    async def waiting() -> None:
        await asyncio.Event().wait()

    failed, cancelled = tasks.start("broken", broken()), tasks.start("waiting", waiting())
    await asyncio.wait([failed])
    await tasks.cancel_all()
    assert [type(bug) for bug in bugs] == [KeyError]
    assert cancelled.cancelled()
    assert failed.get_name() == "broken"
