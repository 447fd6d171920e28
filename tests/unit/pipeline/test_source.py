"""Supervised pools: a manager thread that brings items, round after round; and a whole toy pipeline of four."""

import logging
from collections import Counter
from collections.abc import Iterator
from threading import Event, current_thread

import pytest

from flashflow.pipeline.stages import Source, Stage
from support.pipelines import Gate, pool, running, until


def test_rounds_go_on_until_the_stop() -> None:
    rounds = []

    def task() -> list[int]:
        rounds.append(current_thread().name)
        return [0, 1]

    with running(Stage("detect", str, pool(), source=Source(task, 0.005))) as pipeline:
        until(lambda: len(rounds) >= 5)
        assert not [back for back in pipeline.stop() if back.item not in (0, 1)]
        ended = len(rounds)
        counts = pipeline.counts()["detect"]
        assert counts.entered == 2 * ended == counts.passed + counts.handed_back
    assert set(rounds) == {"detect"}
    assert len(rounds) == ended


def test_a_stop_ends_the_pause_at_once_and_the_pause_is_a_setting() -> None:
    rounds = []

    def task() -> list[int]:
        rounds.append(1)
        return [1]

    with running(Stage("detect", str, pool(), source=Source(task, 3600))) as pipeline:
        until(lambda: pipeline.counts()["detect"].passed)
        assert pipeline.stop() == ()  # and `running` finds no thread left
    assert len(rounds) == 1


def test_a_round_that_fails_brings_nothing_and_the_next_one_does(caplog: pytest.LogCaptureFixture) -> None:
    rounds = []

    def task() -> Iterator[str]:
        rounds.append(1)
        yield f"from round {len(rounds)}"
        if len(rounds) == 1:
            raise OSError("no consensus yet")

    seen: list[str] = []
    with running(Stage("detect", seen.append, pool(), source=Source(task, 0.005))):
        until(lambda: "from round 2" in seen)
    assert "from round 1" not in seen
    assert caplog.messages == ["detect: the source failed"]
    assert "OSError: no consensus yet" in caplog.text


def test_a_source_waits_for_space_and_the_stop_hands_back_what_it_still_has() -> None:
    gate = Gate()
    stop = Event()
    stage = Stage("detect", gate, pool(bound=2), source=Source(lambda: range(10), 3600))
    with running(stage, stop=stop) as pipeline:
        gate.wait_begun()
        until(lambda: pipeline.counts()["detect"].waiting == 2)
        assert pipeline.counts()["detect"].entered == 3
        stop.set()
        gate.open.set()
        assert [back.item for back in pipeline.stop()] == list(range(1, 10))


def test_a_stage_without_a_source_has_no_manager(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), running(Stage("inspect", str, pool(1))):
        pass
    assert caplog.messages[:2] == ["Thread inspect 0 starting", "Thread inspect 0 finished"]


def test_detect_inspect_download_and_cleanup() -> None:
    """Two pools with managers, four stages, two workers each, one stop event: every motion passes every stage."""
    seen: Counter[tuple[str, int]] = Counter()
    workers: set[str] = set()

    def work_of(stage: str) -> Stage:
        def work(motion: int) -> int:
            seen[stage, motion] += 1
            workers.add(current_thread().name)
            return motion

        source = Source(lambda: range(4), 0.005) if stage in ("detect", "cleanup") else None
        then = {"detect": "inspect", "inspect": "download"}.get(stage)
        return Stage(stage, work, pool(2, bound=3), then, source)

    names = ("detect", "inspect", "download", "cleanup")
    with running(*(work_of(stage) for stage in names)) as pipeline:
        until(lambda: all(seen[stage, motion] >= 3 for stage in names for motion in range(4)))
        back = pipeline.stop()
        counts = pipeline.counts()
    assert list(counts) == list(names)
    assert counts["inspect"].entered == counts["detect"].passed
    assert counts["download"].entered == counts["inspect"].passed
    assert sum(each.handed_back for each in counts.values()) == len(back)
    assert workers <= {f"{stage} {number}" for stage in names for number in (0, 1)}
    for stage in names:
        assert counts[stage].passed == sum(count for (name, _), count in seen.items() if name == stage)
        assert counts[stage].entered == counts[stage].passed + counts[stage].handed_back
    assert counts["cleanup"].entered % 4 == 0
