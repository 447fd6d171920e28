"""Slots and periods: every relay of the filter once a period; restarts and clock steps neither double nor lose one."""

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.params import Params
from flashflow.model.ids import Fingerprint
from support.coordinator_world import MIDNIGHT, World, relay

PARAMS = Params(duration_s=5, warmup_s=2, slot_s=30, period_s=300)


def begun(world: World) -> list[Fingerprint]:
    """Relays whose measurement was begun, in order."""
    return [Fingerprint(e.line.split()[2]) for e in world.of(do.SendTorCommand) if " ADDR=" in e.line]


def fail_all(world: World) -> None:
    """Every running measurement ends at once."""
    for meas_id in list(world.core.state.measurements):
        world.ctrl(f"cancel {meas_id}")
        world.say(ev.MeasurementStored(meas_id))


def run_slots(world: World, slots: int) -> None:
    for _ in range(slots):
        world.sleep(30)
        fail_all(world)


def test_each_relay_once_a_period_one_a_slot() -> None:
    world = World(PARAMS, (relay(1), relay(2), relay(3)))
    world.start()
    run_slots(world, 8)
    assert begun(world) == [relay(n).fingerprint for n in (1, 2, 3)]
    run_slots(world, 3)  # the next period begins
    assert len(begun(world)) > 3


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
    world.say(ev.TorWasLost("gone"))
    run_slots(world, 2)
    assert begun(world) == []
    world.say(ev.TorCameUp())
    run_slots(world, 2)
    assert begun(world) == [relay(1).fingerprint]


def test_what_was_taken_is_kept_for_a_restart() -> None:
    world = World(PARAMS, (relay(1), relay(2)))
    world.start()
    run_slots(world, 1)
    saved = world.of(do.SavePeriod)[-1]
    assert saved == do.SavePeriod(MIDNIGHT, (relay(1).fingerprint,))
    again = World(PARAMS, (relay(1), relay(2)))
    again.start(period=(saved.start_utc_s, saved.taken))
    run_slots(again, 5)
    assert begun(again) == [relay(2).fingerprint]


def test_clock_steps_within_a_period_neither_double_nor_lose() -> None:
    world = World(Params(duration_s=5, warmup_s=2, slot_s=30, period_s=86400), (relay(1), relay(2), relay(3)))
    world.utc_s = MIDNIGHT + 40000.0
    world.start()
    run_slots(world, 1)
    world.utc_s -= 3600.0
    run_slots(world, 1)
    world.utc_s += 7200.0
    run_slots(world, 3)
    assert begun(world) == [relay(n).fingerprint for n in (1, 2, 3)]


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
