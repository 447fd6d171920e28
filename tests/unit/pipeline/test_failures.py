"""Items whose work fails: logged, tried again, set aside; and nothing else is hurt by them."""

import logging

import pytest

from flashflow.model.errors import LocalError
from flashflow.pipeline.outcomes import SetAside
from flashflow.pipeline.stages import ItemRefusedError, PipelineSettings, Stage, WorkInterruptedError
from support.pipelines import WAIT_S, pool, running


class ShyError(Exception):
    def __str__(self) -> str:
        raise ValueError("not shown")


def fail_with(error: BaseException) -> Stage:
    """A stage that fails for the item `bad` only."""

    def work(item: object) -> None:
        if item == "bad":
            raise error

    return Stage("inspect", work, pool())


def test_a_failure_is_logged_with_its_traceback_stage_and_item(caplog: pytest.LogCaptureFixture) -> None:
    def work(item: int) -> float:
        return 1 / item

    with running(Stage("inspect", work, pool()), name_of=lambda item: f"relay {item}") as pipeline:
        pipeline.put(0)
        assert pipeline.wait_done(WAIT_S)
    first, second = caplog.records
    assert first.getMessage() == "inspect: relay 0: try 1 of 1 failed"
    assert first.levelno == logging.ERROR
    assert first.exc_info is not None
    assert first.exc_info[0] is ZeroDivisionError
    assert "return 1 / item" in caplog.text
    reason = "ZeroDivisionError: division by zero"
    assert second.getMessage() == f"inspect: relay 0: set aside after 1 tries: {reason}"
    assert pipeline.set_aside() == (SetAside("inspect", 0, "relay 0", reason, 1),)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("two\nlines"), "ValueError: two lines"),
        (KeyError(), "KeyError"),
        (LocalError("no such relay"), "no such relay"),
        (SystemExit(3), "SystemExit: 3"),
        (ValueError("x" * 1000), "ValueError: " + "x" * 488),
        (WorkInterruptedError("but nobody stopped it"), "WorkInterruptedError: but nobody stopped it"),
        (ShyError(), "ShyError: <exception str() failed>"),
    ],
)
def test_any_exception_ends_only_its_item_and_leaves_one_line(error: BaseException, reason: str) -> None:
    with running(fail_with(error)) as pipeline:
        for item in ("good", "bad", "good"):
            pipeline.put(item)
        assert pipeline.wait_done(WAIT_S)
        counts = pipeline.counts()["inspect"]
        assert (counts.passed, counts.failed, counts.set_aside) == (2, 1, 1)
    [aside] = pipeline.set_aside()
    assert aside.item == "bad"
    assert aside.reason.endswith(reason)
    assert len(aside.reason) <= 500


def test_an_item_is_tried_again_before_it_is_set_aside() -> None:
    tries: list[str] = []

    def work(item: str) -> None:
        tries.append(item)
        if item == "never" or tries.count(item) < 3:
            raise ValueError(f"{item} {tries.count(item)}")

    with running(Stage("inspect", work, pool(tries=4))) as pipeline:
        pipeline.put("never")
        pipeline.put("third time")
        assert pipeline.wait_done(WAIT_S)
        counts = pipeline.counts()["inspect"]
    assert (tries.count("never"), tries.count("third time")) == (4, 3)
    assert (counts.entered, counts.passed, counts.set_aside) == (2, 1, 1)
    assert (counts.failed, counts.retried) == (6, 5)
    assert pipeline.set_aside() == (SetAside("inspect", "never", "never", "ValueError: never 4", 4),)


def test_others_come_first_while_an_item_waits_for_its_next_try() -> None:
    order: list[str] = []

    def work(item: str) -> None:
        order.append(item)
        if order == ["bad"]:
            raise ValueError

    with running(Stage("inspect", work, pool(tries=2, retry_after_s=0.2))) as pipeline:
        pipeline.put("bad")
        pipeline.put("a")
        pipeline.put("b")
        assert pipeline.wait_done(WAIT_S)
    assert order == ["bad", "a", "b", "bad"]


def test_each_stage_counts_its_own_tries() -> None:
    seen: list[str] = []

    def once(item: str) -> str:
        seen.append("once")
        if len(seen) == 1:
            raise ValueError
        return item

    def never(item: str) -> None:
        raise ValueError(item)

    stages = (Stage("once", once, pool(tries=2), then="never"), Stage("never", never, pool(tries=3)))
    with running(*stages) as pipeline:
        pipeline.put("a")
        assert pipeline.wait_done(WAIT_S)
    assert pipeline.set_aside() == (SetAside("never", "a", "a", "ValueError: a", 3),)


def test_a_refused_item_is_set_aside_at_once(caplog: pytest.LogCaptureFixture) -> None:
    def work(item: str) -> None:
        raise ItemRefusedError("the filter denies it")

    with caplog.at_level(logging.INFO), running(Stage("inspect", work, pool(tries=5))) as pipeline:
        pipeline.put("a")
        assert pipeline.wait_done(WAIT_S)
        assert pipeline.counts()["inspect"].failed == 0
    assert pipeline.set_aside() == (SetAside("inspect", "a", "a", "the filter denies it", 1),)
    assert caplog.record_tuples == [
        ("flashflow.pipeline.workers", logging.INFO, "inspect: a: set aside: the filter denies it")
    ]


def test_a_stop_hands_back_what_waits_for_its_next_try() -> None:
    def work(item: str) -> None:
        raise ValueError

    with running(Stage("inspect", work, pool(tries=2, retry_after_s=3600))) as pipeline:
        pipeline.put("a")
        while not pipeline.counts()["inspect"].retried:
            assert not pipeline.wait_done(0.01)
        [back] = pipeline.stop()
    assert (back.item, back.tries, back.in_work) == ("a", 1, False)


def test_only_the_newest_set_aside_are_kept() -> None:
    def work(item: int) -> None:
        raise ItemRefusedError("no")

    few = PipelineSettings(poll_s=0.05, join_timeout_s=WAIT_S, kept_set_aside=3)
    with running(Stage("inspect", work, pool()), settings=few) as pipeline:
        for item in range(10):
            pipeline.put(item)
        assert pipeline.wait_done(WAIT_S)
        assert pipeline.counts()["inspect"].set_aside == 10
    assert [aside.item for aside in pipeline.set_aside()] == [7, 8, 9]
