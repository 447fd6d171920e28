"""Settings out of range and stages that do not fit together are refused in one line."""

from collections.abc import Callable
from threading import Event

import pytest

from flashflow.model.errors import UsageError
from flashflow.pipeline.pipeline import Pipeline
from flashflow.pipeline.stages import PipelineSettings, Source, Stage, StageSettings


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: StageSettings(workers=0), "workers: expected a number of at least 1, got 0"),
        (lambda: StageSettings(queue_bound=0), "queue_bound: expected a number of at least 1, got 0"),
        (lambda: StageSettings(tries=0), "tries: expected a number of at least 1, got 0"),
        (lambda: StageSettings(retry_after_s=-1), "retry_after_s: expected a number of at least 0, got -1"),
        (lambda: PipelineSettings(poll_s=0), "poll_s: expected a number of at least 0.001, got 0"),
        (
            lambda: PipelineSettings(join_timeout_s=-1),
            "join_timeout_s: expected a number of at least 0, got -1",
        ),
        (
            lambda: PipelineSettings(kept_set_aside=-1),
            "kept_set_aside: expected a number of at least 0, got -1",
        ),
        (lambda: Source(list, float("nan")), "every_s: expected a number of at least 0.001, got nan"),
        (lambda: Source(list, float("inf")), "every_s: expected a number of at least 0.001, got inf"),
    ],
)
def test_settings_out_of_range(make: Callable[[], object], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.reason == f"pipeline: {reason}"


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ((), "expected at least one stage"),
        ((Stage("a", str), Stage("a", str)), "two stages are called 'a'"),
        ((Stage("a", str, then="b"),), "a: expected a later stage, got 'b'"),
        ((Stage("a", str, then="a"),), "a: expected a later stage, got 'a'"),
        ((Stage("a", str), Stage("b", str, then="a")), "b: expected a later stage, got 'a'"),
    ],
)
def test_stages_that_do_not_fit(stages: tuple[Stage, ...], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        Pipeline(stages, Event())
    assert caught.value.reason == f"pipeline: {reason}"


def test_two_workers_three_tries_and_a_bound_unless_said_otherwise() -> None:
    assert StageSettings() == StageSettings(workers=2, queue_bound=100, tries=3, retry_after_s=1.0)
    assert Source(list).every_s == 5.0
