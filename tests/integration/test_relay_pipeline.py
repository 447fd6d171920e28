"""Relays on their way to the schedule: real threads, and a core that answers from a script."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from coordinator.core import events as ev
from coordinator.core.effects import AnswerOffer
from coordinator.inputs import relay_pipeline
from coordinator.inputs.relay_pipeline import RelayPipeline, RelayPipelineSettings
from flashflow.directory.filter import RelayFilter
from flashflow.model.relay import RelayInfo
from support.coordinator_world import relay

EVENTUALLY_S = 20.0


class Core:
    """Takes what is posted and answers it, unless it is to be silent."""

    def __init__(self, timeout_s: float = 0.2) -> None:
        self.posted: list[ev.RelayOffered | ev.RelayGone] = []
        self.silent = False
        self.pipeline = RelayPipeline(
            RelayPipelineSettings(tries=2, retry_after_s=0.01, timeout_s=timeout_s), self.post
        )

    def post(self, event: object) -> None:
        assert isinstance(event, ev.RelayOffered | ev.RelayGone)
        self.posted.append(event)
        if not self.silent:
            self.pipeline.answer(AnswerOffer(event.offer_id, "slot 1"))

    def sees(self, *relays: RelayInfo, filter_text: str = "allow *\n") -> None:
        self.pipeline.observe(ev.RelaysLoaded(relays, RelayFilter.parse(filter_text, "filter")))

    def seen(self, kind: type) -> list[str]:
        return [event.fingerprint for event in self.posted if isinstance(event, kind)]

    def stage(self, name: str) -> dict[str, int]:
        (found,) = [row for row in self.pipeline.view()["stages"] if row["stage"] == name]
        return found


@pytest_asyncio.fixture
async def core(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Core]:
    monkeypatch.setattr(relay_pipeline, "DETECT_EVERY_S", 0.01)
    core = Core()
    core.pipeline.start()
    yield core
    await core.pipeline.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(EVENTUALLY_S):
        while not condition():  # noqa: ASYNC110 (threads change it)
            await asyncio.sleep(0.005)


def fingerprints(*numbers: int) -> list[str]:
    return [relay(number).fingerprint for number in numbers]


@pytest.mark.asyncio
async def test_relays_are_offered_once_in_the_order_of_the_consensus(core: Core) -> None:
    core.sees(relay(3), relay(1), relay(2))
    await until(lambda: core.stage("schedule")["passed"] == 3)
    core.sees(relay(1), relay(2), relay(3), relay(4))
    await until(lambda: core.stage("schedule")["passed"] == 4)
    assert core.seen(ev.RelayOffered) == fingerprints(3, 1, 2, 4)
    assert core.seen(ev.RelayGone) == []


@pytest.mark.asyncio
async def test_what_may_not_be_measured_is_not_offered_until_it_may(core: Core) -> None:
    core.sees(
        relay(1, running=False), relay(2, ed25519=None), relay(3), filter_text="deny nick:relay3\nallow *\n"
    )
    await until(lambda: core.stage("schedule")["passed"] == 2)
    assert core.posted == []
    core.sees(relay(1), relay(2), relay(3))
    await until(lambda: len(core.seen(ev.RelayOffered)) == 3)
    assert core.seen(ev.RelayOffered) == fingerprints(1, 2, 3)


@pytest.mark.asyncio
async def test_what_leaves_is_taken_back_with_its_reason_and_comes_again(core: Core) -> None:
    core.sees(relay(1), relay(2), relay(3))
    await until(lambda: core.stage("schedule")["passed"] == 3)
    core.sees(relay(1), relay(2, running=False), filter_text="deny nick:relay1\nallow *\n")
    await until(lambda: len(core.seen(ev.RelayGone)) == 2)
    reasons = {event.fingerprint: event.reason for event in core.posted if isinstance(event, ev.RelayGone)}
    assert reasons == {
        relay(1).fingerprint: f"the relay filter does not allow relay1 {relay(1).fingerprint}",
        relay(3).fingerprint: "it left the consensus",
    }
    core.sees(relay(1), relay(2), relay(3))
    await until(lambda: len(core.seen(ev.RelayOffered)) == 5)
    assert core.seen(ev.RelayOffered)[3:] == fingerprints(1, 3)


@pytest.mark.asyncio
async def test_what_is_back_before_the_core_has_let_it_go_is_offered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_pipeline, "DETECT_EVERY_S", 0.01)
    core = Core(timeout_s=EVENTUALLY_S)
    core.pipeline.start()
    try:
        core.sees(relay(1), relay(2))
        await until(lambda: core.stage("schedule")["passed"] == 2)
        core.silent = True
        core.sees(relay(2))
        await until(lambda: core.seen(ev.RelayGone) == fingerprints(1))
        core.sees(relay(1), relay(2), relay(3))
        await until(lambda: core.seen(ev.RelayOffered) == fingerprints(1, 2, 3))  # this one was looked at
        core.silent = False
        for event in core.posted[-2:]:
            core.pipeline.answer(AnswerOffer(event.offer_id, "not scheduled any more"))
        await until(lambda: core.seen(ev.RelayOffered) == fingerprints(1, 2, 3, 1))
    finally:
        await core.pipeline.stop()


@pytest.mark.asyncio
async def test_a_relay_that_the_core_does_not_answer_is_tried_again_then_set_aside(core: Core) -> None:
    core.silent = True
    core.sees(relay(1))
    await until(lambda: core.stage("schedule")["set_aside"] == 1)
    assert core.seen(ev.RelayOffered) == fingerprints(1, 1)
    (aside,) = core.pipeline.view()["set_aside"]
    assert (aside["fingerprint"], aside["reason"]) == (relay(1).fingerprint, "no outcome within 0.2 s")
    core.silent = False
    core.sees(relay(1))
    await until(lambda: core.stage("schedule")["passed"] == 1)


@pytest.mark.asyncio
async def test_a_stop_hands_back_what_is_under_way(core: Core) -> None:
    core.silent = True
    core.sees(relay(1), relay(2), relay(3))
    await until(lambda: len(core.posted) == 1)
    await core.pipeline.stop()
    counts = core.stage("schedule")
    assert counts["passed"] == counts["set_aside"] == counts["waiting"] == counts["in_work"] == 0
