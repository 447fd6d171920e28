"""Relays of one host share a slot, also those that come when the others have theirs."""

from dataclasses import replace

import pytest

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.params import Params
from coordinator.core.planning import slot_of
from flashflow.model.ids import Address
from flashflow.model.plan import PlanRow
from flashflow.model.relay import RelayInfo
from support.coordinator_world import World, relay

PARAMS = Params(
    duration_s=5, warmup_s=2, slot_s=30, period_s=900, strategy="uniform", colocation=frozenset({"address"})
)
COUNT = 8
LOOP = "".join(f"allow {relay(n).fingerprint} mode=loop\n" for n in range(1, COUNT + 3))


def at(number: int, host: int, **changes: bool) -> RelayInfo:
    return relay(number, address=Address(f"192.0.2.{host}", 9000 + number), **changes)


def started(*more: RelayInfo) -> World:
    """Each relay has a host of its own; the schedule is built."""
    world = World(PARAMS, (*(at(n, n) for n in range(1, COUNT + 1)), *more))
    world.start(filter_text=LOOP)
    world.to_next_slot()
    return world


def last_placed(world: World) -> tuple[int, PlanRow]:
    """The relay with the last slot, which is to come."""
    rows = [(world.plan()[relay(n).fingerprint], n) for n in range(1, COUNT + 1)]
    row, number = max(
        ((row, n) for row, n in rows if row.slot is not None), key=lambda pair: pair[0].slot or 0
    )
    assert (row.slot or 0) > slot_of(world.core.state, world.utc_s) + 1
    return number, row


def slots(world: World) -> list[int | None]:
    return [world.plan()[relay(n).fingerprint].slot for n in range(1, COUNT + 1)]


def joins(world: World, new: RelayInfo) -> PlanRow:
    world.relays = (*world.relays, new)
    world.load(LOOP)
    world.say(ev.RelayOffered(1, new.fingerprint))
    return world.plan()[new.fingerprint]


def test_a_new_relay_takes_the_slot_of_the_one_whose_host_it_shares() -> None:
    world = started()
    number, mate = last_placed(world)
    assert mate.group is None
    before = slots(world)
    first = joins(world, at(COUNT + 1, number))
    second = joins(world, at(COUNT + 2, number))
    assert first.slot == second.slot == mate.slot
    group = world.plan()[mate.fingerprint].group
    assert group is not None
    assert first.group == second.group == group
    assert slots(world) == before, "nobody was moved"


def test_a_new_relay_on_a_host_of_its_own_takes_the_first_slot_with_room() -> None:
    world = started()
    row = joins(world, at(COUNT + 1, COUNT + 1))
    assert row.slot == slot_of(world.core.state, world.utc_s) + 1
    assert row.group is None


@pytest.mark.parametrize("is_there", [False, True])
def test_one_that_was_offline_joins_its_host_at_the_next_slot(is_there: bool) -> None:
    """Whether the pipeline offers it before that slot or not."""
    world = started()
    number, mate = last_placed(world)
    late = at(COUNT + 1, number, running=False)
    world.relays = (*world.relays, late)
    world.load(LOOP)
    world.say(ev.RelayOffered(1, late.fingerprint))
    assert late.fingerprint not in world.plan() or world.plan()[late.fingerprint].slot is None
    world.core.state.period.waiting[late.fingerprint] = None
    world.relays = (*world.relays[:-1], replace(late, running=True))
    world.load(LOOP)
    if is_there:
        world.say(ev.RelayOffered(2, late.fingerprint))
    world.to_next_slot()
    row = world.plan()[late.fingerprint]
    assert (row.slot, row.group) == (mate.slot, world.plan()[mate.fingerprint].group)


def test_what_left_the_consensus_while_the_coordinator_was_down_keeps_no_slot() -> None:
    world = started()
    number, _ = last_placed(world)
    left = relay(number).fingerprint
    again = World(world.params, tuple(one for one in world.relays if one.fingerprint != left))
    again.mono_s, again.utc_s = world.mono_s, world.utc_s
    progress = world.of(do.SaveProgress)[-1].progress
    again.start(filter_text=LOOP, progress=progress, plan=tuple(world.plan().values()))
    again.to_next_slot()
    rows = again.plan()
    assert left not in rows or rows[left].slot is None
    others = {fp for fp, row in world.plan().items() if row.slot is not None} - {left}
    assert {fp for fp in others if rows[fp].slot is not None} == others
