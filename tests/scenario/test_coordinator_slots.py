"""Slots and periods: every relay of the filter once a period; restarts and clock steps neither double nor lose one."""

from dataclasses import replace

import pytest

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.params import Params
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint
from flashflow.model.relay import RelayInfo
from flashflow.model.results import Failure
from flashflow.torctl import events as tor
from flashflow.torctl.client import SendTorCommand, TorCameUp, TorWasLost
from flashflow.wire import messages as wire
from support.coordinator_world import MIDNIGHT, World, relay

PARAMS = Params(duration_s=5, warmup_s=2, slot_s=30, period_s=300)
ALL = [relay(n).fingerprint for n in (1, 2, 3)]


def restarted(world: World, relays: tuple[RelayInfo, ...]) -> World:
    """Another run of the service, with what this one stored; time stands still between them."""
    again = World(world.params, relays)
    again.mono_s, again.utc_s = world.mono_s, world.utc_s
    again.start(progress=world.of(do.SaveProgress)[-1].progress, plan=tuple(world.plan().values()))
    return again


def begun(world: World) -> list[Fingerprint]:
    """Relays whose measurement was begun, in order."""
    return [Fingerprint(e.line.split()[2]) for e in world.of(SendTorCommand) if " ADDR=" in e.line]


def fail_all(world: World) -> None:
    """Every running measurement ends at once, by its relay's fault."""
    for meas in list(world.core.state.measurements.values()):
        world.say(tor.MeasEnd(meas.meas_id, False, "REFUSED_OTHER"))
        world.say(ev.MeasurementStored(meas.meas_id))


def run_slots(world: World, slots: int) -> None:
    for _ in range(slots):
        world.sleep(30)
        fail_all(world)


def test_each_relay_once_a_period() -> None:
    world = World(PARAMS, (relay(1), relay(2), relay(3)))
    world.start()
    run_slots(world, 8)
    assert sorted(begun(world)) == ALL
    run_slots(world, 10)  # the next period
    assert sorted(begun(world)) == sorted(2 * ALL)


def test_the_filter_decides() -> None:
    world = World(PARAMS, (relay(1), relay(2), relay(3, running=False), relay(4, ed25519=None)))
    world.start(filter_text=f"deny {relay(1).fingerprint}\nallow *\n")
    run_slots(world, 8)
    assert begun(world) == [relay(2).fingerprint]


def test_nothing_is_measured_without_an_allowing_rule() -> None:
    world = World(PARAMS)
    world.start(filter_text="# nothing\n")
    run_slots(world, 5)
    assert begun(world) == []


def test_nothing_begins_without_tor_or_measurers_and_nothing_is_lost_by_it() -> None:
    world = World(PARAMS, (relay(1),))
    world.start()
    world.say(TorWasLost("gone"))
    run_slots(world, 7)
    assert begun(world) == []
    world.say(TorCameUp())
    run_slots(world, 1)
    assert begun(world) == [relay(1).fingerprint]


def test_a_slot_that_passed_without_measurers_is_caught_up() -> None:
    world = World(PARAMS, (relay(1), relay(2)))
    world.start()
    run_slots(world, 1)
    assert len(begun(world)) == 0  # by these seeds, neither has the first slot
    for name in ("m1", "m2"):
        world.say(ev.MeasurerGone(name, "gone"))
    run_slots(world, 6)
    assert begun(world) == []
    world.say(ev.MeasurerJoined("m2", 62_500_000, "127.0.0.1"))
    run_slots(world, 1)
    assert sorted(begun(world)) == ALL[:2]


def test_a_restart_goes_on_with_the_schedule() -> None:
    relays = tuple(relay(n) for n in range(1, 9))
    world = World(PARAMS, relays)
    world.start()
    run_slots(world, 4)
    first = begun(world)
    planned = {fp: row.slot for fp, row in world.plan().items() if row.slot is not None}
    assert 0 < len(first) < 8
    assert len(first) + len(planned) == 8
    again = restarted(world, relays)
    again.load()
    assert {fp: row.slot for fp, row in again.core.state.period.stored.items()} == planned
    for slot in range(6, 10):
        run_slots(again, 1)
        assert sorted(begun(again)) == sorted(fp for fp in planned if planned[fp] <= slot)
    assert sorted(first + begun(again)) == [one.fingerprint for one in relays]


def test_what_was_in_work_at_a_crash_is_recorded_as_failed_and_measured_again() -> None:
    world = World(replace(PARAMS, strategy="fastest"), (relay(1), relay(2)))
    world.start()
    world.sleep(31)
    saved = world.of(do.SaveProgress)[-1].progress
    assert [left.fingerprint for left in saved.in_work] == ALL[:2]
    again = World(world.params, (relay(1), relay(2)))
    again.utc_s = world.utc_s
    again.say(ev.Started(bytes(32), (), (), saved, tuple(world.plan().values())))
    lost = [effect.record for effect in again.of(do.SaveMeasurement)]
    assert [record.fingerprint for record in lost] == ALL[:2]
    assert {record.failure for record in lost} == {
        Failure(ErrorKind.LOCAL, "the coordinator ended during the measurement")
    }
    assert again.of(do.SaveProgress)[-1].progress.in_work == saved.in_work, "until the store has them"
    for record in lost:
        again.say(ev.MeasurementStored(record.meas_id))
    assert again.of(do.SaveProgress)[-1].progress.in_work == ()
    again = restarted(world, (relay(1), relay(2)))
    run_slots(again, 1)
    assert sorted(begun(again)) == ALL[:2]
    run_slots(again, 6)
    assert sorted(begun(again)) == ALL[:2], "two runs a period, whatever became of the first"


def test_what_was_in_work_at_a_crash_is_tried_again_while_the_disk_is_full() -> None:
    world = World(replace(PARAMS, strategy="fastest"), (relay(1), relay(2)))
    world.start()
    world.sleep(31)
    saved = world.of(do.SaveProgress)[-1].progress
    again = World(world.params, (relay(1), relay(2)))
    again.utc_s = world.utc_s
    again.say(ev.Started(bytes(32), (), (), saved))
    first, second = (left.meas_id for left in saved.in_work)
    again.say(ev.MeasurementNotStored(first, "disk full"))
    again.say(ev.MeasurementStored(second))
    again.effects.clear()
    again.sleep(5.1)
    assert [effect.record.meas_id for effect in again.of(do.SaveMeasurement)] == [first]
    again.say(ev.MeasurementNotStored(first, "disk full"))
    again.sleep(60)
    again.say(ev.MeasurementNotStored(first, "disk full"))
    (told,) = [effect.text for effect in again.of(do.Log) if "is lost" in effect.text]
    assert f"measurement {first} was not stored and is lost" in told
    assert again.of(do.SaveProgress)[-1].progress.in_work == ()


def fail_with(world: World, kind: ErrorKind) -> None:
    """What runs fails by a measurer's word."""
    for meas_id in list(world.core.state.measurements):
        message = wire.Failure(meas_id=meas_id, code="LAUNCH_CIRCS", kind=kind, reason="x")
        world.say(ev.MeasurerSaid("m1", message))
        world.say(ev.MeasurementStored(meas_id))


def test_a_failure_without_the_relays_fault_gives_one_more_chance() -> None:
    world = World(replace(PARAMS, strategy="fastest"), (relay(1), relay(2)))
    world.start()
    for _ in range(8):
        world.sleep(30)
        fail_with(world, ErrorKind.NETWORK)
    assert sorted(begun(world)) == sorted(2 * ALL[:2])


def test_a_relay_that_fails_by_its_own_fault_waits_for_the_next_period() -> None:
    world = World(PARAMS, (relay(1), relay(2)))
    world.start()
    for _ in range(8):
        world.sleep(30)
        fail_with(world, ErrorKind.PEER)
    assert sorted(begun(world)) == ALL[:2]


def test_a_relay_that_is_offline_at_its_slot_waits_until_it_is_back() -> None:
    world = World(replace(PARAMS, strategy="fastest"), (relay(1), relay(2)))
    world.start()
    world.relays = (relay(1, running=False), relay(2))
    world.load()
    run_slots(world, 2)
    assert begun(world) == ALL[1:2]
    world.relays = (relay(1), relay(2))
    world.load()
    run_slots(world, 1)
    assert begun(world) == ALL[1::-1]


def test_what_finds_no_capacity_in_its_slot_gets_another() -> None:
    """A controller's measurement has the whole team."""
    world = World(replace(PARAMS, strategy="fastest"), (relay(1), relay(2)))
    world.start()
    world.sleep(25)
    world.to_phase("connecting", "relay2")
    world.sleep(6)
    assert [request.scheduled for request in world.core.state.queue] == [True]
    fail_all(world)
    assert sorted(begun(world)) == [ALL[0], ALL[1]]
    fail_all(world)
    run_slots(world, 1)
    assert sorted(begun(world)) == [ALL[0], ALL[1], ALL[1]]
    run_slots(world, 5)
    assert len(begun(world)) == 3, "a controller's measurement counts"


def planned(world: World) -> dict[Fingerprint, int]:
    """The slot of each relay that has one."""
    schedule = world.core.state.period.schedule
    assert schedule is not None
    return {placement.fingerprint: placement.slot for placement in schedule.placements()}


def slot_now(world: World) -> int:
    """Of 30 s."""
    return int((world.utc_s - MIDNIGHT) // 30)


def among(slots: dict[Fingerprint, int], first: int, end: int) -> set[Fingerprint]:
    """Who has one of the slots from `first` to before `end`."""
    return {fingerprint for fingerprint, slot in slots.items() if first <= slot < end}


def begun_in(world: World, slots: int) -> set[Fingerprint]:
    """Relays that begin in the next slots."""
    before = len(begun(world))
    run_slots(world, slots)
    return set(begun(world)[before:])


HOUR = 120
"""Slots."""


@pytest.mark.parametrize("replayed", [3, HOUR])
def test_clock_steps_within_a_period_neither_double_nor_lose(replayed: int) -> None:
    """An hour back, of which `replayed` slots pass again, and then over an hour whose slots had not come yet."""
    relays = tuple(
        replace(relay(1), fingerprint=Fingerprint(f"{number:040X}"), nickname=f"relay{number}")
        for number in range(1, 201)
    )
    world = World(Params(duration_s=5, warmup_s=2, slot_s=30, period_s=86400), relays)
    world.utc_s = MIDNIGHT + 36000.5
    world.start()
    run_slots(world, 1)
    schedule, first = planned(world), slot_now(world)
    assert among(schedule, first + 1, 2880) == set(schedule)
    assert begun_in(world, HOUR) == among(schedule, first + 1, first + HOUR + 1) != set()

    world.utc_s -= 3600.0
    left = planned(world)
    assert left == {fp: slot for fp, slot in schedule.items() if slot > first + HOUR}
    assert begun_in(world, replayed) == set(), "its relays had their turn"
    assert planned(world) == left

    skipped_from = first + HOUR + 1
    skipped_to = skipped_from + HOUR
    skipped = among(left, skipped_from, skipped_to)
    assert len(skipped) > 1
    world.utc_s += 30.0 * (skipped_to - 1 - slot_now(world))
    assert begun_in(world, 1) == skipped | among(left, skipped_to, skipped_to + 1)
    assert begun_in(world, 2880 - 1 - slot_now(world)) == among(left, skipped_to + 1, 2880)
    assert slot_now(world) == 2879
    assert sorted(begun(world)) == [one.fingerprint for one in relays]


def test_draining_begins_nothing_and_ends_with_the_last_measurement() -> None:
    world = World(PARAMS)
    world.start()
    meas_id = world.to_phase("active")
    world.ctrl("measure relay2 wait", conn=2)
    world.say(ev.StopRequested())
    (dropped,) = world.events_to(2, "done")
    assert dropped["failure"]["reason"] == "the coordinator is stopping"
    assert not world.of(do.StopService)
    assert world.ctrl("measure relay2")["error"] == "the coordinator is stopping"
    world.play_seconds(1, 7)
    world.say(ev.MeasurementStored(meas_id))
    assert len(world.of(do.StopService)) == 1


def test_draining_with_nothing_in_work_ends_at_once() -> None:
    world = World(PARAMS)
    world.start()
    assert do.StopService() in world.say(ev.StopRequested())


def test_periodic_work() -> None:
    world = World(Params(slot_s=60, v3bw_interval_s=600, directory_refresh_s=900), (relay(1),))
    world.start(filter_text="")
    world.sleep(1801)
    assert len(world.of(do.WriteV3bw)) == 3
    assert len(world.of(do.LoadRelays)) == 2


def test_relays_that_cannot_be_read_leave_the_old_ones() -> None:
    world = World(PARAMS)
    world.start()
    world.say(ev.RelaysFailed("consensus: damaged"))
    assert world.ctrl("status")["relays"] == 2
    assert world.ctrl("status")["relays_error"] == "consensus: damaged"
