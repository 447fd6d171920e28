"""Pools of named workers, from start to stop."""

import logging
from threading import Barrier, Event, Thread, current_thread
from time import monotonic

import pytest

from flashflow.model.errors import LocalError
from flashflow.pipeline.outcomes import HandedBack, StageCounts
from flashflow.pipeline.pipeline import Pipeline
from flashflow.pipeline.stages import PipelineSettings, Source, Stage
from support.pipelines import QUICK, WAIT_S, Gate, pool, running, until


def test_workers_are_named_and_share_the_stages_items() -> None:
    together = Barrier(3)
    names = []

    def work(item: object) -> None:
        together.wait(WAIT_S)
        names.append((current_thread().name, item))

    with running(Stage("inspect", work, pool(workers=3))) as pipeline:
        assert all(pipeline.put(item) for item in "abc")
        assert pipeline.wait_done(WAIT_S)
    assert {name for name, _ in names} == {"inspect 0", "inspect 1", "inspect 2"}
    assert {item for _, item in names} == {"a", "b", "c"}


def test_each_stage_has_its_own_number_of_workers() -> None:
    inspect, download = Gate(), Gate()
    with running(Stage("inspect", inspect, pool(1)), Stage("download", download, pool(3))) as pipeline:
        for item in range(4):
            pipeline.put(item)
            pipeline.put(item, stage="download")
        inspect.wait_begun(1)
        download.wait_begun(3)
        counts = pipeline.counts()
        inspect.open.set()
        download.open.set()
        assert (counts["inspect"].in_work, counts["download"].in_work) == (1, 3)
        assert (counts["inspect"].waiting, counts["download"].waiting) == (3, 1)


def test_what_work_returns_goes_on_in_order() -> None:
    through: list[object] = []
    stages = (
        Stage("double", lambda item: item * 2, pool(), then="show"),
        Stage("show", lambda item: f"<{item}>", pool(), then="keep"),
        Stage("keep", through.append, pool()),
    )
    with running(*stages) as pipeline:
        for item in range(10):
            assert pipeline.put(item)
        assert pipeline.wait_done(WAIT_S)
        assert set(pipeline.counts().values()) == {StageCounts(10, 10, 0, 0, 0, 0, 0, 0)}
    assert through == [f"<{item * 2}>" for item in range(10)]


def test_nothing_piles_up_behind_the_last_stage() -> None:
    with running(Stage("first", str, pool(2, 5), then="last"), Stage("last", str, pool(2, 5))) as pipeline:
        for item in range(1000):
            assert pipeline.put(item)
        assert pipeline.wait_done(WAIT_S)
        assert all(each.passed == 1000 and each.waiting == 0 for each in pipeline.counts().values())
        assert pipeline.set_aside() == ()
        assert pipeline.stop() == ()


def test_a_full_queue_holds_up_whoever_brings_more() -> None:
    gate = Gate()
    with running(Stage("first", str, pool(), then="slow"), Stage("slow", gate, pool(bound=2))) as pipeline:
        for item in range(4):
            pipeline.put(item)
        gate.wait_begun()
        pipeline.put(4)
        until(lambda: pipeline.counts()["first"].in_work == 1 and pipeline.counts()["first"].waiting == 1)
        assert (pipeline.counts()["slow"].in_work, pipeline.counts()["slow"].waiting) == (1, 2)
        assert not pipeline.put("more", stage="slow", timeout_s=0.01)
        gate.open.set()
        assert pipeline.wait_done(WAIT_S)
    assert gate.ended == ["0", "1", "2", "3", "4"]


def test_who_waits_looks_at_the_clock_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle workers, a full queue and an item that waits for its next try: nobody spins."""
    looks = [0]

    def count() -> float:
        looks[0] += 1
        return monotonic()

    monkeypatch.setattr("flashflow.pipeline.queues.monotonic", count)
    gate = Gate()
    calm = PipelineSettings(poll_s=60, join_timeout_s=WAIT_S)
    tried = []

    def fail_once(item: object) -> None:
        tried.append(item)
        if len(tried) == 1:
            raise ValueError

    stages = (
        Stage("full", gate, pool(bound=1)),
        Stage("idle", str, pool(workers=4)),
        Stage("again", fail_once, pool(workers=2, tries=2, retry_after_s=0.3)),
    )
    with running(*stages, settings=calm) as pipeline:
        assert pipeline.put("in work")
        gate.wait_begun()
        assert pipeline.put("waits")
        assert pipeline.put("again", stage="again")
        assert not pipeline.put("no space", timeout_s=0.3)
        until(lambda: len(tried) == 2)
        gate.open.set()
        assert looks[0] < 60


def test_stop_finishes_what_is_in_work_and_hands_back_the_rest() -> None:
    gate = Gate()
    with running(Stage("inspect", gate, pool(2), then="last"), Stage("last", str, pool())) as pipeline:
        for item in "abcd":
            pipeline.put(item)
        gate.wait_begun(2)
        back: list[HandedBack] = []
        stopping = Thread(target=lambda: back.extend(pipeline.stop()))
        stopping.start()
        until(lambda: not pipeline.put("late", timeout_s=0))
        gate.open.set()
        stopping.join(WAIT_S)
        assert sorted(gate.ended) == ["a", "b"]
        assert {(each.stage, each.item, each.tries, each.in_work) for each in back} == {
            ("inspect", "c", 0, False),
            ("inspect", "d", 0, False),
            ("last", "a", 0, False),
            ("last", "b", 0, False),
        }
        assert pipeline.stop() == ()


def test_a_worker_that_waits_for_space_hands_its_result_back() -> None:
    gate = Gate()
    stages = (Stage("first", str.upper, pool(), then="slow"), Stage("slow", gate, pool(bound=1)))
    stop = Event()
    with running(*stages, stop=stop) as pipeline:
        for item in "abc":
            pipeline.put(item)
        gate.wait_begun()
        until(lambda: pipeline.counts()["slow"].waiting == 1 and not pipeline.counts()["first"].waiting)
        until(lambda: pipeline.counts()["first"].in_work == 1)
        stop.set()
        gate.open.set()
        assert [(each.stage, each.item, each.name) for each in pipeline.stop()] == [
            ("slow", "B", "b"),
            ("slow", "C", "c"),
        ]
        assert gate.ended == ["A"]


def test_whoever_waits_to_put_something_in_is_let_go_at_the_stop() -> None:
    gate = Gate()
    answers = []
    with running(Stage("slow", gate, pool(bound=1))) as pipeline:
        pipeline.put("a")
        gate.wait_begun()
        pipeline.put("b")
        waiting = Thread(target=lambda: answers.append(pipeline.put("c")))
        waiting.start()
        stopping = Thread(target=pipeline.stop)
        stopping.start()
        waiting.join(WAIT_S)
        gate.open.set()
        stopping.join(WAIT_S)
        assert answers == [False]
        assert pipeline.counts()["slow"] == StageCounts(2, 1, 0, 0, 0, 1, 0, 0)


def test_others_may_set_the_stop_event() -> None:
    stop = Event()
    gate = Gate()
    with running(Stage("inspect", gate, pool()), stop=stop) as pipeline:
        pipeline.put("a")
        pipeline.put("b")
        gate.wait_begun()
        stop.set()
        gate.open.set()
        assert not pipeline.put("c")
        assert [each.item for each in pipeline.stop()] == ["b"]


def test_work_that_hangs_is_left_behind_and_what_it_returns_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    impatient = PipelineSettings(poll_s=0.05, join_timeout_s=0.05)
    stages = (Stage("inspect", gate, pool(), then="last"), Stage("last", str, pool()))
    with running(*stages, settings=impatient) as pipeline:
        pipeline.put("a")
        gate.wait_begun()
        assert pipeline.stop() == (HandedBack("inspect", "a", "a", 1, in_work=True),)
        assert "Thread inspect 0 is still busy and is left behind" in caplog.messages
        counts = pipeline.counts()
        gate.open.set()
        until(lambda: gate.ended)
        for thread in pipeline._threads:
            thread.join(WAIT_S)
        assert pipeline.counts() == counts
        assert pipeline.stop() == ()


def test_threads_are_told_of_in_order(caplog: pytest.LogCaptureFixture) -> None:
    stages = (
        Stage("detect", str, pool(2), then="inspect", source=Source(list, 3600)),
        Stage("inspect", str, pool(1)),
    )
    names = ["detect", "detect 0", "detect 1", "inspect 0"]
    with caplog.at_level(logging.DEBUG), running(*stages) as pipeline:
        pipeline.stop()
        assert caplog.messages[:8] == [
            *(f"Thread {name} starting" for name in names),
            *(f"Thread {name} finished" for name in names),
        ]


def test_after_a_start_that_failed_halfway_everything_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    start = Thread.start

    def no_third(thread: Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    gate = Gate()
    gate.open.set()
    stop = Event()
    pipeline = Pipeline((Stage("a", gate, pool(1)), Stage("b", gate, pool(3))), stop, QUICK)
    pipeline.put("early", stage="b")
    monkeypatch.setattr(Thread, "start", no_third)
    with pytest.raises(
        LocalError, match=r"pipeline: thread b 1 could not be started: can't start new thread"
    ):
        pipeline.start()
    assert stop.is_set()
    back = pipeline.stop()
    assert [thread.name for thread in started] == ["a 0", "b 0"]
    assert not any(thread.is_alive() for thread in started)
    assert [*gate.ended, *(each.item for each in back)] == ["early"]


def test_a_pipeline_that_was_never_started_hands_everything_back() -> None:
    pipeline = Pipeline((Stage("a", str, pool()),), Event(), QUICK)
    pipeline.put(1)
    assert pipeline.stop() == (HandedBack("a", 1, "1", 0, in_work=False),)
    assert not pipeline.put(2)


def test_not_done_within_the_time() -> None:
    gate = Gate()
    with running(Stage("a", gate, pool())) as pipeline:
        pipeline.put(1)
        assert not pipeline.wait_done(0.01)
        gate.open.set()
        assert pipeline.wait_done(WAIT_S)
