"""The plan under what comes at the wrong moment: each relay has one place in it, whoever comes, goes or fails."""

from dataclasses import replace

import pytest

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.measurement import DEADLINES, Phase
from coordinator.core.params import Params
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint
from flashflow.model.results import Fault
from flashflow.torctl.client import SendTorCommand
from flashflow.wire import messages as wire
from support.coordinator_world import MIDNIGHT, World, relay, stored

PARAMS = Params(duration_s=5, warmup_s=2, slot_s=30, period_s=300, strategy="fastest")
LOOP = "".join(f"allow {relay(n).fingerprint} mode=loop\n" for n in range(1, 9))
ONE, TWO = relay(1).fingerprint, relay(2).fingerprint
FLOOR_BYTES = 125_000
TEAM_BYTES = 125_000_000


def started(params: Params = PARAMS, count: int = 2, filter_text: str = LOOP) -> World:
    world = World(params, tuple(relay(n) for n in range(1, count + 1)))
    world.start(filter_text=filter_text)
    return world


def restarted(world: World, params: Params | None = None) -> World:
    """Another run with what this one stored."""
    again = World(params or world.params, world.relays)
    again.mono_s, again.utc_s = world.mono_s, world.utc_s
    again.start(
        filter_text=LOOP,
        progress=world.of(do.SaveProgress)[-1].progress,
        plan=tuple(world.plan().values()),
    )
    return again


def in_work(world: World) -> list[Fingerprint]:
    return sorted(meas.relay.fingerprint for meas in world.core.state.measurements.values())


def report_all(world: World, capacity_bytes: int) -> None:
    """What runs comes to its end, without being stored yet."""
    running = [m for m in world.core.state.measurements.values() if m.record is None]
    for meas in running:
        for name, share in meas.shares.items():
            ready = wire.ConnectedToRelay(meas_id=meas.meas_id, n_circs=share.n_circs)
            world.say(ev.MeasurerSaid(name, ready))
    world.sleep(world.params.warmup_s)
    for second in range(1, world.params.duration_s + 1):
        world.sleep(1.0)
        for meas in running:
            total = min(capacity_bytes, meas.allocated_bytes)
            for name, share in meas.shares.items():
                recv = total * share.allocated_bytes // meas.allocated_bytes
                message = wire.BwReport(meas_id=meas.meas_id, second=second, sent_bytes=recv, recv_bytes=recv)
                world.say(ev.MeasurerSaid(name, message))


def offer(world: World, fingerprint: Fingerprint = ONE) -> str:
    (answer,) = world.of(do.AnswerOffer, world.say(ev.RelayOffered(9, fingerprint)))
    return answer.outcome


def test_an_offer_of_a_relay_in_work_gives_it_no_second_slot() -> None:
    """After a restart of the service every relay is offered."""
    world = started()
    world.to_next_slot()
    assert in_work(world) == [ONE, TWO]
    assert offer(world) == "it is being measured"
    report_all(world, FLOOR_BYTES)
    world.store_all()
    assert offer(world) == "it is done for this period"
    for _ in range(5):
        world.to_next_slot()
        assert not in_work(world)


def test_a_relay_that_is_offered_between_a_restart_and_its_first_slot_is_placed() -> None:
    world = started(replace(PARAMS, strategy="uniform"), count=4)
    world.to_next_slot()
    assert any(row.slot is not None for row in world.plan().values())
    again = restarted(world)
    again.relays = tuple(relay(n) for n in range(1, 6))
    again.load(LOOP)
    offer(again, relay(5).fingerprint)
    again.to_next_slot()
    assert again.plan()[relay(5).fingerprint].slot is not None or relay(5).fingerprint in in_work(again)


def test_a_relay_without_room_is_placed_once_when_there_is_room() -> None:
    """It is offered while it waits, and the team grows."""
    world = started(replace(PARAMS, period_s=60), count=8)
    world.core.state.raised = {relay(n).fingerprint: TEAM_BYTES // 4 for n in range(1, 9)}
    world.load(LOOP)
    world.to_next_slot()
    waiting = list(world.core.state.period.waiting)
    assert len(waiting) > 1
    assert offer(world, waiting[0]) == "no slot has room for it"
    for name in ("m3", "m4", "m5", "m6", "m7", "m8"):
        world.say(ev.MeasurerJoined(name, TEAM_BYTES, "127.0.0.1"))
    world.fail_all(ErrorKind.PEER)
    world.to_next_slot()
    placed = [p.fingerprint for p in world.core.state.period.schedule.placements()]  # type: ignore[union-attr]
    everywhere = placed + in_work(world)
    assert set(waiting) <= set(everywhere)
    assert len(everywhere) == len(set(everywhere))
    assert not world.core.state.period.waiting


def test_an_estimate_from_the_others_stays_after_a_failure() -> None:
    """Nobody has measured relay 1: it counts as the 75th percentile, at its second chance too."""
    others = tuple(relay(n, unmeasured=False, consensus_weight_kb=4000) for n in range(2, 6))
    world = World(PARAMS, (relay(1), *others))
    world.start(filter_text=LOOP)
    world.to_next_slot()
    rates = [m.allocated_bytes for m in world.core.state.measurements.values() if m.relay.fingerprint == ONE]
    world.fail_all()
    world.to_next_slot()
    again = [m.allocated_bytes for m in world.core.state.measurements.values() if m.relay.fingerprint == ONE]
    assert rates == again
    assert rates[0] > 4_000_000


def test_what_is_stored_in_the_next_period_changes_nothing_there() -> None:
    world = started(count=1)
    world.utc_s = MIDNIGHT + 265.0
    world.to_next_slot()
    report_all(world, FLOOR_BYTES)
    world.utc_s = MIDNIGHT + 299.9
    for name in ("m1", "m2"):
        world.say(ev.MeasurerGone(name, "gone"))
    world.sleep(1.0)  # a period without a schedule yet
    world.store_all()
    for name in ("m1", "m2"):
        world.say(ev.MeasurerJoined(name, TEAM_BYTES // 2, "127.0.0.1"))
    world.to_next_slot()
    assert in_work(world) == [ONE]


def test_a_result_that_is_lost_is_no_result() -> None:
    """The store takes nothing for a minute: the relay gets its second chance."""
    world = started(count=1)
    world.to_next_slot()
    report_all(world, FLOOR_BYTES)
    (meas_id,) = world.core.state.measurements
    for _ in range(13):
        world.say(ev.MeasurementNotStored(meas_id, "disk full"))
        world.sleep(5.0)
    assert meas_id not in world.core.state.measurements
    assert ONE not in world.core.state.period.done
    world.to_next_slot()
    world.to_next_slot()
    assert world.core.state.period.runs[ONE] == 2


def hung(capacity_bytes: int) -> tuple[World, ev.MeasurementStored]:
    """A relay's record is given up while the store has it in its hands; and that it is stored after all."""
    world = started(count=1)
    world.to_next_slot()
    report_all(world, capacity_bytes)
    (meas_id,) = world.core.state.measurements
    world.sleep(60.1)
    assert meas_id not in world.core.state.measurements
    assert ONE not in world.core.state.period.done
    return world, ev.MeasurementStored(meas_id)


def test_a_record_that_is_stored_after_all_counts() -> None:
    world, stored = hung(FLOOR_BYTES)
    known = len(world.of(do.Log))
    world.say(stored)
    told = [line.text for line in world.of(do.Log)[known:]]
    assert [text for text in told if f"measurement {stored.meas_id} was stored after all" in text]
    state = world.core.state
    assert state.results[ONE].accepted
    assert ONE in state.period.done
    assert ONE not in state.period.due()
    assert world.say(stored) == [], "once"


def test_a_lower_bound_that_is_stored_after_all_gives_no_second_slot() -> None:
    world, stored = hung(TEAM_BYTES)
    world.say(stored)
    state = world.core.state
    assert state.raised[ONE] >= state.results[ONE].result_bytes
    assert state.period.due().count(ONE) + len(in_work(world)) == 1
    world.to_next_slot()
    world.to_next_slot()
    assert state.period.runs[ONE] == 2


def test_what_is_stored_after_all_in_the_next_period_changes_nothing_there() -> None:
    world, stored = hung(FLOOR_BYTES)
    world.utc_s = MIDNIGHT + 299.9
    world.say(ev.CtrlClosed(9))  # any event: the clock is looked at
    world.sleep(1.0)
    assert in_work(world) == [ONE]
    world.say(stored)
    assert ONE in world.core.state.results
    assert ONE not in world.core.state.period.done


def test_a_record_that_was_given_up_and_is_refused_is_gone() -> None:
    world, stored = hung(FLOOR_BYTES)
    world.say(ev.MeasurementNotStored(stored.meas_id, "disk full"))
    assert world.say(stored) == []
    assert not world.core.state.given_up


def test_plan_and_progress_are_saved_together_and_again_if_that_failed() -> None:
    world = started()
    world.to_next_slot()
    saved = world.of(do.SaveProgress)[-1]
    assert {left.fingerprint for left in saved.progress.in_work} == {ONE, TWO}
    assert {row.fingerprint: row.runs for row in saved.rows} == {ONE: 1, TWO: 1}
    for _ in range(2):
        world.effects.clear()
        world.say(ev.StoreFailed("disk full"))
        world.sleep(4.9)
        assert not world.of(do.SaveProgress)
        world.sleep(0.2)
        (again,) = world.of(do.SaveProgress)
        assert again.whole
        assert {left.fingerprint for left in again.progress.in_work} == {ONE, TWO}
        assert {row.fingerprint: row.runs for row in again.rows} == {ONE: 1, TWO: 1}
    world.effects.clear()
    world.sleep(10.0)
    assert not [saved for saved in world.of(do.SaveProgress) if saved.whole], "it was stored now"


def recording(mode: str = "loop") -> World:
    """Measurements that are to begin, of which the store has not said anything."""
    world = started(filter_text=LOOP.replace("loop", mode))
    world.store_is_prompt = False
    world.to_next_slot()
    return world


@pytest.mark.parametrize("mode", ["echo", "loop"])
def test_that_a_measurement_begins_is_on_disk_before_anybody_hears_of_it(mode: str) -> None:
    world = recording(mode)
    world.sleep(1.0)
    assert not world.of(SendTorCommand)
    assert not world.of(do.SendToMeasurer)
    assert not [told for told in world.of(do.Log) if " begins " in told.text]
    assert {row["phase"] for row in world.ctrl("status")["measurements"]} == {"recording"}
    (saved,) = [one for one in world.of(do.SaveProgress) if one.progress.in_work]
    world.say(ev.ProgressStored(()))
    assert not world.of(SendTorCommand), "that was of something else"
    world.to_disk()
    assert len([told for told in world.of(do.Log) if " begins " in told.text]) == 2
    asked = world.of(SendTorCommand) if mode == "echo" else world.of(do.SendToMeasurer)
    assert asked
    before = len(world.effects)
    assert world.say(stored(saved)) == world.effects[before:] == [], "once only"


@pytest.mark.parametrize("mode", ["echo", "loop"])
def test_the_set_up_has_its_time_from_when_it_is_recorded(mode: str) -> None:
    world = recording(mode)
    world.sleep(9.0)
    world.to_disk()
    limit_s = DEADLINES[Phase.CONNECTING if mode == "loop" else Phase.LAUNCHING](world.params)
    for meas in world.core.state.measurements.values():
        assert meas.deadline_s == pytest.approx(world.mono_s + limit_s)


def test_what_the_store_does_not_take_in_time_does_not_begin() -> None:
    """It fails by our fault, not the relay's; it does not count among those of the period, and is planned again."""
    world = recording()
    world.sleep(10.1)
    assert not world.of(do.SendToMeasurer)
    records = [saved.record for saved in world.of(do.SaveMeasurement)]
    assert sorted(record.fingerprint for record in records) == [ONE, TWO]
    for record in records:
        assert record.failure is not None
        assert record.failure.fault is Fault.OURS
        assert "the store did not take in time that it begins" in record.failure.reason
    world.to_disk()
    assert not world.of(do.SendToMeasurer)
    for record in records:
        world.say(ev.MeasurementStored(record.meas_id))
    assert {row.runs for row in world.plan().values()} == {0}
    world.to_next_slot()
    assert in_work(world) == [ONE, TWO]
    assert world.of(do.SendToMeasurer)


def test_progress_that_was_not_stored_is_tried_again_while_draining() -> None:
    world = started()
    world.to_next_slot()
    world.say(ev.StoreFailed("disk full"))
    world.say(ev.StopRequested())
    world.effects.clear()
    world.sleep(5.1)
    assert world.of(do.SaveProgress)


def test_a_restart_with_other_slots_makes_another_schedule_for_the_rest_of_the_period() -> None:
    world = started(replace(PARAMS, strategy="uniform", slot_s=30), count=8)
    world.to_next_slot()
    first = in_work(world)
    world.fail_all(ErrorKind.PEER)
    again = restarted(world, replace(PARAMS, slot_s=60))
    again.to_next_slot()
    assert in_work(again) == [relay(n).fingerprint for n in range(1, 9) if relay(n).fingerprint not in first]


def test_a_restart_with_another_period_begins_it_anew() -> None:
    world = started(count=2)
    world.to_next_slot()
    world.fail_all(ErrorKind.PEER)
    again = restarted(world, replace(PARAMS, period_s=600))
    again.to_next_slot()
    assert in_work(again) == [ONE, TWO]


def test_a_clock_that_goes_back_by_several_periods_begins_nothing_twice() -> None:
    world = started(count=4)
    world.sleep(3600)
    world.utc_s -= 3600.0
    before = len(world.of(do.SaveMeasurement))
    world.sleep(3000)
    assert len(world.of(do.SaveMeasurement)) == before
    world.sleep(1200)
    assert len(world.of(do.SaveMeasurement)) > before


def test_a_clock_that_was_far_ahead_does_not_stop_the_service() -> None:
    world = started(count=1)
    world.utc_s += 10 * 86400.0
    world.sleep(61)
    world.utc_s -= 10 * 86400.0
    world.fail_all()
    world.sleep(61)
    assert in_work(world) == [ONE]


def test_a_slot_without_a_team_gives_up_what_was_queued_for_the_last_one() -> None:
    world = started(count=2)
    world.sleep(25)
    world.say(ev.CtrlSaid(1, "measure relay2"))  # the whole team
    world.to_next_slot()
    assert [request.fingerprint for request in world.core.state.queue] == [ONE]
    for name in ("m1", "m2"):
        world.say(ev.MeasurerGone(name, "gone"))
    world.to_next_slot()
    assert world.core.state.queue == []
    assert ONE in world.core.state.period.waiting


def test_a_relay_whose_going_is_heard_of_when_it_is_back_keeps_its_slot() -> None:
    world = started(replace(PARAMS, strategy="uniform"))
    world.to_next_slot()
    before = world.plan()
    (answer,) = world.of(do.AnswerOffer, world.say(ev.RelayGone(4, ONE, "it left the consensus")))
    assert answer.outcome.startswith("it is back: slot ")
    assert world.plan() == before


def test_a_relay_that_is_queued_and_leaves_is_measured_when_it_is_back() -> None:
    world = started()
    world.sleep(25)
    world.say(ev.CtrlSaid(1, "measure relay2"))
    world.to_next_slot()
    assert [request.fingerprint for request in world.core.state.queue] == [ONE]
    world.relays = (relay(2),)
    world.load(LOOP)
    assert world.core.state.queue == []
    world.relays = (relay(1), relay(2))
    world.load(LOOP)
    world.fail_all()
    world.to_next_slot()
    assert ONE in in_work(world)


@pytest.mark.parametrize(("mbit", "bytes_per_s"), [(2, 250_000), (1000, 369_141)])
def test_a_filters_limit_that_falls_binds_in_the_slot_that_is_planned(mbit: int, bytes_per_s: int) -> None:
    world = started(replace(PARAMS, strategy="uniform"))
    world.to_next_slot()
    world.load(f"allow {ONE} mode=loop rate={mbit}\nallow {TWO} mode=loop rate={mbit}\n")
    while not in_work(world):
        world.to_next_slot()
    for meas in world.core.state.measurements.values():
        assert bytes_per_s - 2 <= meas.allocated_bytes <= bytes_per_s
        assert meas.limited == (mbit == 2)


def test_the_slot_timer_keeps_to_the_allowance_that_controllers_use_up() -> None:
    """Two measurements that a controller asked for are ahead of the planned one in the queue."""
    world = started(count=2)
    world.sleep(20)
    for name in ("relay2", "relay1", "relay1"):
        world.say(ev.CtrlSaid(1, f"measure {name}"))
    world.to_next_slot()
    queued = [(r.fingerprint, r.scheduled) for r in world.core.state.queue]
    assert queued == [(ONE, False), (ONE, False), (ONE, True)]
    for _ in range(4):
        world.fail_all()
    assert world.core.state.period.runs[ONE] == 2
    assert ONE in world.core.state.period.done


def test_a_limit_that_falls_while_a_relay_is_queued_binds() -> None:
    world = started()
    world.sleep(25)
    world.say(ev.CtrlSaid(1, "measure relay2"))
    world.to_next_slot()
    assert [request.fingerprint for request in world.core.state.queue] == [ONE]
    world.load(f"allow {ONE} mode=loop rate=1\nallow {TWO} mode=loop\n")
    world.fail_all()
    (meas,) = [m for m in world.core.state.measurements.values() if m.relay.fingerprint == ONE]
    assert FLOOR_BYTES - 2 <= meas.allocated_bytes <= FLOOR_BYTES
    assert meas.limited


def test_who_loses_the_slot_to_a_smaller_team_after_a_restart_waits() -> None:
    world = started(replace(PARAMS, period_s=60), count=4)
    world.core.state.raised = {relay(n).fingerprint: TEAM_BYTES // 8 for n in range(1, 5)}
    world.load(LOOP)
    world.to_next_slot()
    planned = {fp for fp, row in world.plan().items() if row.slot is not None}
    assert len(planned) == 2
    again = World(world.params, world.relays)
    again.mono_s, again.utc_s = world.mono_s, world.utc_s
    progress, plan = world.of(do.SaveProgress)[-1].progress, tuple(world.plan().values())
    again.say(ev.Started(b"\x07" * 32, (), (), progress, plan, secret=b"\x08" * 32))
    again.load(LOOP)
    again.say(ev.MeasurerJoined("m1", 1, "127.0.0.1"))
    again.to_next_slot()
    (measured,) = in_work(again)
    assert planned - {measured} <= again.core.state.period.waiting.keys()
