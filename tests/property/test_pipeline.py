"""Every item put into a pipeline comes out exactly once, whatever fails, whatever the sizes, whenever it is stopped."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Lock, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashflow.pipeline.outcomes import HandedBack, SetAside, StageCounts
from flashflow.pipeline.pipeline import Pipeline
from flashflow.pipeline.queues import Job, Queues
from flashflow.pipeline.stages import (
    ItemRefusedError,
    PipelineSettings,
    Source,
    Stage,
    StageSettings,
    WorkInterruptedError,
)
from support.pipelines import WAIT_S

Item = tuple[str, int]
"""Where it was put in, and its number there."""
ERRORS: tuple[type[BaseException], ...] = (ValueError, SystemExit, ItemRefusedError, WorkInterruptedError)


@dataclass(frozen=True)
class Plan:
    """One run."""

    pools: list[StageSettings]
    from_outside: list[int]
    """For each stage, how many items come from outside."""
    from_sources: list[int]
    """For each stage, how many items each round of its source brings; 0: it has none."""
    failures: list[type[BaseException] | None]
    """What the n-th call of any work raises, from the start again after the last."""
    stop_at: int | None
    """The number of calls of any work at which the stop event is set; None: stopped once all is done, if it ever is."""


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    stages = draw(st.integers(1, 3))
    each = {"min_size": stages, "max_size": stages}
    pool = st.builds(
        StageSettings,
        workers=st.integers(1, 3),
        queue_bound=st.integers(1, 4),
        tries=st.integers(1, 3),
        retry_after_s=st.sampled_from([0.0, 0.001]),
    )
    from_sources = draw(st.lists(st.sampled_from([0, 0, 1, 6]), **each))
    # A source never ends, so something has to stop the pipeline.
    stop_at = st.integers(0, 40) if any(from_sources) else st.none() | st.integers(0, 40)
    return Plan(
        draw(st.lists(pool, **each)),
        draw(st.lists(st.integers(0, 12), **each)),
        from_sources,
        draw(st.lists(st.none() | st.sampled_from(ERRORS), min_size=1, max_size=12)),
        draw(stop_at),
    )


class Run:
    """A pipeline that is run by a plan, and what was seen of its items from outside."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stop = Event()
        self.lock = Lock()
        self.put: Counter[Item] = Counter()
        self.kept: Counter[Item] = Counter()
        """Not taken by the pipeline."""
        self.through: Counter[Item] = Counter()
        self.calls = 0
        last = len(plan.pools) - 1
        stages = tuple(
            Stage(
                str(number),
                self._work(is_last=number == last),
                pool,
                str(number + 1) if number < last else None,
                Source(self._task(number, plan.from_sources[number]), 0.001)
                if plan.from_sources[number]
                else None,
            )
            for number, pool in enumerate(plan.pools)
        )
        self.pipeline = Pipeline(stages, self.stop, PipelineSettings(0.01, WAIT_S, 100_000))

    def _work(self, *, is_last: bool) -> Callable[[Item], Item]:
        def work(item: Item) -> Item:
            with self.lock:
                error = self.plan.failures[self.calls % len(self.plan.failures)]
                self.calls += 1
                if self.calls == self.plan.stop_at:
                    self.stop.set()
            if error is not None:
                raise error("planned")
            if is_last:
                with self.lock:
                    self.through[item] += 1
            return item

        return work

    def _task(self, stage: int, count: int) -> Callable[[], list[Item]]:
        rounds = iter(range(1_000_000))

        def task() -> list[Item]:
            name = f"source {stage} {next(rounds)}"
            items = [(name, number) for number in range(count)]
            with self.lock:
                self.put.update(items)
            return items

        return task

    def _bring(self, stage: int) -> None:
        for number in range(self.plan.from_outside[stage]):
            item = (f"outside {stage}", number)
            taken = self.pipeline.put(item, stage=str(stage))
            with self.lock:
                (self.put if taken else self.kept)[item] += 1

    def _watch(self, ended: Event) -> None:
        while not ended.wait(0.001):
            if unbalanced(self.pipeline.counts()):
                self.watched.append(self.pipeline.counts())

    def carry_out(self) -> tuple[HandedBack, ...]:
        """From start to stop; returns what was handed back."""
        self.watched: list[dict[str, StageCounts]] = []
        ended = Event()
        bringers = [Thread(target=self._bring, args=(stage,)) for stage in range(len(self.plan.pools))]
        watcher = Thread(target=self._watch, args=(ended,))
        self.pipeline.start()
        for thread in (*bringers, watcher):
            thread.start()
        if self.plan.stop_at is None:
            for thread in bringers:
                thread.join(WAIT_S)
            assert self.pipeline.wait_done(WAIT_S)
        elif self.plan.stop_at:
            # A run that is done before so many calls is stopped then; one with a source always gets there.
            while not self.stop.wait(0.001):
                if not any(self.plan.from_sources) and self.pipeline.wait_done(0.001):
                    break
        back = self.pipeline.stop()
        ended.set()
        for thread in (*bringers, watcher):
            thread.join(WAIT_S)
            assert not thread.is_alive()
        return back


def unbalanced(counts: dict[str, StageCounts]) -> list[str]:
    """The stages whose counters do not add up."""
    return [
        name
        for name, each in counts.items()
        if each.entered != each.passed + each.set_aside + each.handed_back + each.waiting + each.in_work
    ]


def astray(
    put: Counter[Item],
    through: Counter[Item],
    aside: tuple[SetAside, ...],
    back: tuple[HandedBack, ...],
) -> list[str]:
    """Items that did not come out exactly once."""
    out = through + Counter(each.item for each in aside) + Counter(each.item for each in back)
    return [
        f"{item}: {put[item]} in, {out[item]} out" for item in put | out if put[item] != 1 or out[item] != 1
    ]


@contextmanager
def quiet() -> Iterator[None]:
    """Thousands of planned tracebacks are of no use to anybody."""
    log = logging.getLogger("flashflow.pipeline")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)


@settings(max_examples=200, deadline=None)
@given(plans())
def test_every_item_comes_out_exactly_once(plan: Plan) -> None:
    run = Run(plan)
    with quiet():
        back = run.carry_out()
    aside = run.pipeline.set_aside()
    assert astray(run.put, run.through, aside, back) == []
    assert not set(run.kept) & set(run.put)
    counts = run.pipeline.counts()
    assert run.watched == []
    assert unbalanced(counts) == []
    assert not any(each.waiting or each.in_work for each in counts.values())
    assert sum(each.set_aside for each in counts.values()) == len(aside)
    assert counts[str(len(plan.pools) - 1)].passed == run.through.total()
    assert sum(each.handed_back for each in counts.values()) == len(back)
    assert all(each.tries <= plan.pools[int(each.stage)].tries for each in (*aside, *back))
    assert not any(each.in_work for each in back)
    assert plan.stop_at is not None or (not back and not run.kept)


def lose(queues: Queues, job: Job, reason: str) -> None:
    """In place of Queues.failed: forgets the item."""
    with queues._lock:
        queues._end(job)


def double(queues: Queues, job: Job, reason: str) -> None:
    """In place of Queues.failed: the item is set aside, and waits for another try as well."""
    with queues._lock:
        queues._end(job)
        queues._give_up(job, reason)
        if job.tries == 1:
            job.queue.add(job)


@pytest.mark.parametrize("fault", [lose, double])
def test_an_item_lost_or_doubled_is_found(
    monkeypatch: pytest.MonkeyPatch, fault: Callable[[Queues, Job, str], None]
) -> None:
    plan = Plan([StageSettings(tries=3, retry_after_s=0)], [4], [0], [None, ValueError], None)
    monkeypatch.setattr(Queues, "failed", fault)
    run = Run(plan)
    with quiet():
        back = run.carry_out()
    assert astray(run.put, run.through, run.pipeline.set_aside(), back) != []
    assert unbalanced(run.pipeline.counts()) == ["0"]
