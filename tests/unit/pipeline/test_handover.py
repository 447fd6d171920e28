"""Items handed over to somebody else, such as an event loop, who says what came of them."""

import asyncio
from threading import Event

import pytest

from flashflow.model.errors import LocalError
from flashflow.pipeline.handover import HandOver, Outcome
from flashflow.pipeline.stages import Stage
from support.pipelines import QUICK, WAIT_S, pool, running, until


class Receiver:
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.got: list[tuple[object, Outcome]] = []

    def __call__(self, item: object, outcome: Outcome) -> None:
        self.got.append((item, outcome))

    def outcome(self, number: int = 0) -> Outcome:
        until(lambda: len(self.got) > number)
        return self.got[number][1]


def handing(receiver: Receiver, stop: Event, timeout_s: float = WAIT_S, tries: int = 1) -> Stage:
    work = HandOver(receiver, stop, timeout_s=timeout_s, poll_s=QUICK.poll_s)
    return Stage("hand over", work, pool(2, tries=tries))


def test_an_item_is_done_when_the_receiver_says_so() -> None:
    receiver, stop, through = Receiver(), Event(), []
    last = Stage("last", through.append, pool())
    first = handing(receiver, stop)
    with running(Stage(first.name, first.work, first.settings, "last"), last, stop=stop) as pipeline:
        pipeline.put("relay")
        outcome = receiver.outcome()
        assert pipeline.counts()["hand over"].in_work == 1
        assert outcome.is_awaited()
        assert outcome.succeed("100 Mbit/s")
        assert pipeline.wait_done(WAIT_S)
        assert not outcome.is_awaited()
        assert not outcome.fail("a second word")
    assert through == ["100 Mbit/s"]


def test_an_outcome_that_is_a_failure_is_a_failed_try() -> None:
    receiver, stop = Receiver(), Event()
    with running(handing(receiver, stop, tries=2), stop=stop) as pipeline:
        pipeline.put("relay")
        receiver.outcome(0).fail("the relay is busy")
        receiver.outcome(1).fail("the relay is gone")
        assert pipeline.wait_done(WAIT_S)
    [aside] = pipeline.set_aside()
    assert (aside.stage, aside.item, aside.reason, aside.tries) == (
        "hand over",
        "relay",
        "the relay is gone",
        2,
    )


def test_without_an_outcome_in_time_it_is_set_aside_and_a_late_one_changes_nothing() -> None:
    receiver, stop = Receiver(), Event()
    with running(handing(receiver, stop, timeout_s=0.02), stop=stop) as pipeline:
        pipeline.put("relay")
        assert pipeline.wait_done(WAIT_S)
        assert not receiver.outcome().succeed()
        assert pipeline.counts()["hand over"].passed == 0
    assert [aside.reason for aside in pipeline.set_aside()] == ["no outcome within 0.02 s"]


def test_a_stop_ends_the_wait_and_hands_the_item_back() -> None:
    receiver, stop = Receiver(), Event()
    with running(handing(receiver, stop, timeout_s=3600), stop=stop) as pipeline:
        pipeline.put("relay")
        outcome = receiver.outcome()
        [back] = pipeline.stop()
        assert (back.item, back.tries, back.in_work) == ("relay", 0, False)
        assert not outcome.is_awaited()
        assert not outcome.succeed()
        assert pipeline.counts()["hand over"].failed == 0


def test_without_a_time_out_nobody_waits() -> None:
    receiver, stop = Receiver(), Event()
    with running(handing(receiver, stop, timeout_s=0), stop=stop) as pipeline:
        pipeline.put("relay")
        assert pipeline.wait_done(WAIT_S)
        assert pipeline.counts()["hand over"].passed == 1
    assert [item for item, _ in receiver.got] == ["relay"]


def test_an_outcome_at_the_moment_of_the_stop_counts() -> None:
    stop, outcome = Event(), Outcome()
    stop.set()
    assert outcome.succeed(5)
    assert outcome.wait(stop, WAIT_S, 0.01) == 5


async def test_an_event_loop_takes_the_items_on_its_own_thread() -> None:
    loop = asyncio.get_running_loop()
    stop = Event()
    taken: list[int] = []

    def take(item: int, outcome: Outcome) -> None:
        asyncio.get_running_loop()  # raises anywhere else
        taken.append(item)
        later = outcome.succeed if item % 2 else lambda: outcome.fail("even")
        loop.call_soon(later)

    def post(item: int, outcome: Outcome) -> None:
        loop.call_soon_threadsafe(take, item, outcome)

    work = HandOver(post, stop, timeout_s=WAIT_S, poll_s=QUICK.poll_s)
    with running(Stage("hand over", work, pool(3)), stop=stop) as pipeline:
        for item in range(10):
            assert await asyncio.to_thread(pipeline.put, item)
        assert await asyncio.to_thread(pipeline.wait_done, WAIT_S)
        assert await asyncio.to_thread(pipeline.stop) == ()
    assert sorted(taken) == list(range(10))
    assert sorted(str(aside.item) for aside in pipeline.set_aside()) == ["0", "2", "4", "6", "8"]


def test_a_receiver_that_raises_is_a_failed_try() -> None:
    def post(item: object, outcome: Outcome) -> None:
        raise LocalError("the loop is closed")

    stop = Event()
    with running(Stage("hand over", HandOver(post, stop, timeout_s=WAIT_S), pool()), stop=stop) as pipeline:
        pipeline.put("relay")
        assert pipeline.wait_done(WAIT_S)
    assert [aside.reason for aside in pipeline.set_aside()] == ["the loop is closed"]


def test_waiting_for_an_outcome_raises_its_reason() -> None:
    outcome = Outcome()
    outcome.fail("no")
    with pytest.raises(LocalError, match="no"):
        outcome.wait(Event(), WAIT_S, 0.01)
