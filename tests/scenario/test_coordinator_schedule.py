"""The schedule in the running service: doubling, allowance, team limits, new relays, seeds of periods."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.colocation import Kind
from coordinator.core.params import Params
from coordinator.core.planning import shared_random
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint
from flashflow.model.network import ConsensusHeader
from flashflow.model.results import MeasurementRecord
from flashflow.wire import messages as wire
from support.coordinator_world import MIDNIGHT, World, relay

PARAMS = Params(duration_s=5, warmup_s=2, slot_s=30, period_s=300, strategy="fastest")
TEAM_BYTES = 125_000_000
"""Of World's two measurers."""
FLOOR_BYTES = 125_000
LOOP = "".join(f"allow {relay(n).fingerprint} mode=loop\n" for n in range(1, 9))
ONE = relay(1).fingerprint


def started(params: Params = PARAMS, count: int = 1, filter_text: str = LOOP) -> World:
    """A team and relays that are measured in loop mode, for which no Tor client needs to be played."""
    world = World(params, tuple(relay(n) for n in range(1, count + 1)))
    world.start(filter_text=filter_text)
    return world


def finish(world: World, capacity_bytes: int) -> list[MeasurementRecord]:
    """What runs ends with what the relay can do, or what it is loaded with if that is less."""
    records = []
    for meas in list(world.core.state.measurements.values()):
        for name, share in meas.shares.items():
            ready = wire.ConnectedToRelay(meas_id=meas.meas_id, n_circs=share.n_circs)
            world.say(ev.MeasurerSaid(name, ready))
    running = list(world.core.state.measurements.values())
    world.sleep(world.params.warmup_s)
    for second in range(1, world.params.duration_s + 1):
        world.sleep(1.0)
        for meas in running:
            total = min(capacity_bytes, meas.allocated_bytes)
            for name, share in meas.shares.items():
                recv = total * share.allocated_bytes // meas.allocated_bytes
                report = wire.BwReport(meas_id=meas.meas_id, second=second, sent_bytes=recv, recv_bytes=recv)
                world.say(ev.MeasurerSaid(name, report))
    for meas in running:
        assert meas.record is not None
        records.append(meas.record)
        world.say(ev.MeasurementStored(meas.meas_id))
    return records


def slots(world: World, n_slots: int, capacity_bytes: int) -> list[list[MeasurementRecord]]:
    """So many slots from now, with what was measured in each."""
    found = []
    for _ in range(n_slots):
        world.to_next_slot()
        found.append(finish(world, capacity_bytes))
    return found


def test_an_estimate_that_is_too_low_grows_until_a_result_is_accepted() -> None:
    """8 times too low: what it is loaded with is its result twice, then it is accepted, in the second period."""
    world = started()
    records = [record for slot in slots(world, 12, 8 * FLOOR_BYTES) for record in slot][:3]
    f = 2.953125
    expected = [f * FLOOR_BYTES, f * f * FLOOR_BYTES, f * 8 * FLOOR_BYTES]
    assert [record.allocated_bytes for record in records] == pytest.approx(expected, abs=4)
    assert [record.accepted for record in records] == [False, False, True]
    assert records[2].result_bytes == pytest.approx(8 * FLOOR_BYTES, abs=2)
    periods = [int(record.started_utc_s // 300) for record in records]
    assert periods[0] == periods[1] == periods[2] - 1
    assert world.plan()[ONE].raised_bytes == 0


def test_a_result_just_too_near_to_what_was_allocated_doubles_the_estimate() -> None:
    world = started()
    records = [record for slot in slots(world, 2, 2 * FLOOR_BYTES) for record in slot]
    assert records[1].allocated_bytes == pytest.approx(2 * records[0].allocated_bytes, abs=2)
    assert [record.accepted for record in records] == [False, True]


def test_a_raised_estimate_survives_a_restart() -> None:
    world = started()
    slots(world, 2, 8 * FLOOR_BYTES)
    again = World(PARAMS, (relay(1),))
    again.mono_s, again.utc_s = world.mono_s, world.utc_s
    plan = tuple(world.plan().values())
    again.start(filter_text=LOOP, progress=world.of(do.SaveProgress)[-1].progress, plan=plan)
    records = [record for slot in slots(again, 10, 8 * FLOOR_BYTES) for record in slot]
    assert records[0].allocated_bytes == pytest.approx(2.953125 * FLOOR_BYTES * 8, abs=2)


def test_a_relay_that_is_faster_than_the_team_can_show_is_a_lower_bound_and_not_doubled() -> None:
    world = started()
    world.core.state.raised[ONE] = TEAM_BYTES
    world.load(LOOP)
    records = [record for slot in slots(world, 8, 10**9) for record in slot]
    assert [record.allocated_bytes for record in records] == [TEAM_BYTES]
    assert [(record.accepted, record.team_limited) for record in records] == [(False, True)]
    assert world.core.state.results[ONE].team_limited
    assert world.core.state.raised[ONE] == TEAM_BYTES


def test_the_filters_rate_limit_is_a_limit_too() -> None:
    world = started(filter_text=f"allow {ONE} mode=loop rate=2\n")
    (record,) = [record for slot in slots(world, 8, 10**9) for record in slot]
    assert record.allocated_bytes == 250_000
    assert (record.accepted, record.team_limited) == (False, True)


def test_a_new_relay_gets_the_first_slot_with_room_and_moves_nobody() -> None:
    world = started(replace(PARAMS, strategy="uniform"), count=6)
    slots(world, 1, 8 * FLOOR_BYTES)
    before = {fp: row.slot for fp, row in world.plan().items() if row.slot is not None}
    world.relays = tuple(relay(n) for n in range(1, 8))
    world.load(LOOP)
    (answer,) = world.of(do.AnswerOffer, world.say(ev.RelayOffered(5, relay(7).fingerprint)))
    assert answer == do.AnswerOffer(5, "slot 3")
    after = {fp: row.slot for fp, row in world.plan().items() if row.slot is not None}
    assert after == {**before, relay(7).fingerprint: 3}
    (again,) = world.of(do.AnswerOffer, world.say(ev.RelayOffered(6, relay(7).fingerprint)))
    assert again.outcome == "slot 3"


@pytest.mark.parametrize("seen", ["not in the consensus", "not allowed"])
def test_an_offer_of_what_may_not_be_measured_changes_nothing(seen: str) -> None:
    world = started(count=2, filter_text=f"allow {ONE} mode=loop\n")
    slots(world, 1, FLOOR_BYTES)
    stranger = relay(2).fingerprint if seen == "not allowed" else Fingerprint("F" * 40)
    (answer,) = world.of(do.AnswerOffer, world.say(ev.RelayOffered(1, stranger)))
    assert answer.outcome == "it may not be measured, or is not running"
    assert stranger not in world.plan()


def leave(world: World, fingerprint: Fingerprint) -> None:
    """A consensus without it."""
    world.relays = tuple(one for one in world.relays if one.fingerprint != fingerprint)
    world.load(LOOP)


def test_a_relay_that_is_gone_has_no_slot_and_its_measurement_ends() -> None:
    world = started(replace(PARAMS, strategy="uniform"), count=8)
    world.sleep(31)
    planned = [fp for fp, row in world.plan().items() if row.slot is not None]
    leave(world, planned[0])
    world.say(ev.RelayGone(1, planned[0], "it left the consensus"))
    assert world.plan()[planned[0]].slot is None
    while not world.core.state.measurements:
        world.sleep(1.0)
    meas = next(iter(world.core.state.measurements.values()))
    leave(world, meas.relay.fingerprint)
    world.say(ev.RelayGone(2, meas.relay.fingerprint, "it left the consensus"))
    assert meas.record is not None
    assert meas.record.failure is not None
    assert (meas.record.failure.kind, meas.record.failure.reason) == (
        ErrorKind.NETWORK,
        "it left the consensus",
    )
    while world.core.state.next_slot_utc_s < MIDNIGHT + 300:
        slots(world, 1, FLOOR_BYTES)
    begun = {record.record.fingerprint for record in world.of(do.SaveMeasurement)}
    assert planned[0] not in begun


def test_what_a_period_has_no_room_for_comes_first_in_the_next() -> None:
    """Each relay takes a third of the team; the last one in order has no slot."""
    params = replace(PARAMS, period_s=60)
    world = started(params, count=8)
    world.core.state.raised = {relay(n).fingerprint: TEAM_BYTES // 8 for n in range(1, 9)}
    world.load(LOOP)
    world.sleep(31)  # the first whole period
    first = [record.fingerprint for slot in slots(world, 2, 10_000) for record in slot]
    second = [record.fingerprint for slot in slots(world, 2, 10_000) for record in slot]
    assert len(set(first)) < 8
    assert {relay(n).fingerprint for n in range(1, 9)} - set(first) <= set(second[:4])


def test_a_measurer_that_joins_or_leaves_changes_the_slots_to_come() -> None:
    world = started(count=4)
    world.core.state.raised = {relay(n).fingerprint: TEAM_BYTES // 8 for n in range(1, 5)}
    world.load(LOOP)
    world.say(ev.MeasurerGone("m2", "gone"))
    (first,) = slots(world, 1, 10_000)
    assert len(first) == 1
    world.say(ev.MeasurerJoined("m2", TEAM_BYTES // 2, "127.0.0.1"))
    world.say(ev.MeasurerJoined("m3", TEAM_BYTES // 2, "127.0.0.1"))
    world.say(ev.MeasurerGone("m1", "gone"))
    (second,) = slots(world, 1, 10_000)
    assert {share.name for record in second for share in record.shares} == {"m2", "m3"}


def test_a_clock_that_goes_back_into_the_last_period_begins_nothing_twice() -> None:
    world = started(count=4)
    slots(world, 2, 10_000)
    assert len(world.of(do.SaveMeasurement)) == 4
    world.utc_s -= 200
    slots(world, 3, 10_000)
    assert len(world.of(do.SaveMeasurement)) == 4


def at_one_address(team_parts: int, *kinds: Kind) -> World:
    """Eight relays of one address, each of which takes one of so many parts of the team."""
    params = replace(PARAMS, strategy="uniform", colocation=frozenset(kinds))
    world = started(params, count=8)
    each = int(TEAM_BYTES / team_parts / params.allocation_factor)
    world.core.state.raised = {relay(n).fingerprint: each for n in range(1, 9)}
    world.load(LOOP)
    world.sleep(31)
    return world


def of_schedule(world: World) -> list[str]:
    """What the log has of schedules that were built."""
    return [effect.text for effect in world.of(do.Log) if effect.text.startswith("a schedule for ")]


def test_a_group_that_is_larger_than_a_slot_is_told() -> None:
    """Two of them fill a slot."""
    world = at_one_address(2, "address")
    assert not world.core.state.measurements, "by these seeds, the first slot has none of them"
    (told,) = of_schedule(world)
    assert told.startswith("a schedule for 8 relays in 4 slots; 1 groups of co-located relays ")
    (group,) = world.ctrl("schedule")["split_groups"]
    assert sorted(group["members"]) == sorted(relay(n).fingerprint for n in range(1, 9))
    assert group["slots"] == 4
    used = Counter(row.slot for row in world.plan().values())
    assert sorted(used.values()) == [2, 2, 2, 2]
    shown = {row["slot"]: row["relays"] for row in world.ctrl("schedule")["slots"]}
    assert shown == used


@pytest.mark.parametrize(("team_parts", "kinds"), [(8, ["address"]), (2, ["family"]), (2, [])])
def test_of_a_group_that_has_one_slot_and_of_strangers_nothing_is_told(
    team_parts: int, kinds: list[Kind]
) -> None:
    world = at_one_address(team_parts, *kinds)
    (told,) = of_schedule(world)
    assert told.startswith("a schedule for 8 relays in ")
    assert "co-located" not in told
    assert world.ctrl("schedule")["split_groups"] == []
    share_a_slot = len({row.slot for row in world.plan().values()}) == 1
    assert share_a_slot == ("address" in kinds)


def test_a_relay_of_ours_is_loaded_and_judged_by_its_own_multiplier() -> None:
    """m is 3 as long as the estimate is the network's, or a doubled one, and 2 once it is our accepted result."""
    world = started(replace(PARAMS, multiplier=Fraction(3), multiplier_known=Fraction(2)))
    e1, e2 = 0.20, 0.05
    known_bytes, grown_bytes = 150_000, 160_000
    first, second = [record for slot in slots(world, 8, known_bytes) for record in slot]
    (again,) = [record for slot in slots(world, 1, known_bytes) for record in slot]
    slots(world, 9, known_bytes)
    grown, raised = [record for slot in slots(world, 10, grown_bytes) for record in slot]

    def load(m: float, estimate: float) -> object:
        return pytest.approx(m * (1 + e2) / (1 - e1) * estimate, abs=10)

    def bound(m: float, record: MeasurementRecord) -> float:
        return record.allocated_bytes * (1 - e1) / m

    assert first.allocated_bytes == load(3, FLOOR_BYTES)
    assert bound(3, first) < first.result_bytes < bound(2, first)
    assert second.allocated_bytes == load(3, 2 * FLOOR_BYTES)
    assert second.result_bytes < bound(3, second)
    assert again.allocated_bytes == load(2, known_bytes)
    assert bound(3, again) < again.result_bytes < bound(2, again)
    assert grown.allocated_bytes == load(2, known_bytes)
    assert bound(2, grown) < grown.result_bytes
    assert raised.allocated_bytes == load(3, 2 * known_bytes)
    judged = [record.accepted for record in (first, second, again, grown, raised)]
    assert judged == [False, True, True, False, True]


def planned_later(params: Params) -> World:
    """A schedule that is built, with relay 1 in a slot to come."""
    world = started(replace(params, strategy="uniform", period_s=3000))
    world.sleep(31)
    assert not world.core.state.measurements
    assert world.plan()[ONE].slot is not None
    return world


def next_record(world: World, capacity_bytes: int) -> MeasurementRecord:
    while not (found := slots(world, 1, capacity_bytes)[0]):
        pass
    return found[0]


def test_what_is_known_since_the_slot_was_chosen_is_not_doubled() -> None:
    """The consensus gives it more by now: the load showed nothing of that."""
    world = planned_later(PARAMS)
    world.relays = (relay(1, consensus_weight_kb=4000, unmeasured=False),)
    world.load(LOOP)
    first, second = next_record(world, 4_000_000), next_record(world, 4_000_000)
    assert first.allocated_bytes == pytest.approx(2.953125 * FLOOR_BYTES, abs=2)
    assert not first.accepted
    assert second.allocated_bytes == pytest.approx(2.953125 * 4_000_000, abs=2)
    assert second.accepted


def test_a_controllers_result_is_not_overridden_by_a_load_that_was_planned_before() -> None:
    """That one is judged as what it is, by the network's estimate."""
    world = planned_later(replace(PARAMS, multiplier=Fraction(3), multiplier_known=Fraction(2)))
    world.ctrl(f"measure {ONE}")
    (asked,) = finish(world, 1_000_000)
    assert asked.accepted
    planned = next_record(world, 150_000)
    assert planned.allocated_bytes == pytest.approx(3 * 1.05 / 0.8 * FLOOR_BYTES, abs=2)
    assert planned.allocated_bytes * 0.8 / 3 < planned.result_bytes < planned.allocated_bytes * 0.8 / 2
    assert not planned.accepted
    estimate = world.core.state.estimates[ONE]
    assert (estimate.rate_bytes, estimate.ours) == (1_000_000, True)


SEEN = ConsensusHeader(MIDNIGHT - 3600, {}, b"new" * 8, b"old" * 8)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (SEEN, b"new" * 8),
        (replace(SEEN, valid_after_utc_s=MIDNIGHT, shared_random_previous=b"was" * 8), b"was" * 8),
        (ConsensusHeader(MIDNIGHT, {}, b"new" * 8, None), None),
        (ConsensusHeader(), None),
    ],
)
def test_deployments_agree_on_the_shared_random_value(header: ConsensusHeader, value: bytes | None) -> None:
    """Whichever consensus around midnight each has."""
    assert shared_random(header, MIDNIGHT) == value
    assert shared_random(header, MIDNIGHT + 7200) == value


def seed(header: ConsensusHeader, **started: bytes) -> bytes:
    world = World(replace(PARAMS, strategy="uniform"))
    world.say(
        ev.Started(started.get("entropy", bytes(32)), (), (), None, (), started.get("secret", b"s" * 32))
    )
    world.load(LOOP, header)
    world.say(ev.MeasurerJoined("m1", TEAM_BYTES, "127.0.0.1"))
    world.sleep(31)
    assert world.core.state.period.seed
    return world.core.state.period.seed


def test_the_seed_is_the_secret_and_the_shared_random_value() -> None:
    assert seed(SEEN) == seed(SEEN, entropy=b"e" * 32)
    assert seed(SEEN) != seed(SEEN, secret=b"t" * 32)
    assert seed(SEEN) != seed(replace(SEEN, shared_random_current=b"x" * 32))


def test_without_a_shared_random_value_a_stored_one_takes_its_place() -> None:
    assert seed(ConsensusHeader()) != seed(ConsensusHeader(), entropy=b"e" * 32)
    world = started(replace(PARAMS, strategy="uniform"))
    world.sleep(31)
    told = [effect.text for effect in world.of(do.Log)]
    assert "the consensus has no shared random value: the schedule goes by a stored one" in told
    saved = world.of(do.SaveProgress)[-1].progress
    assert len(saved.stand_in) == 64
    slots(world, 10, 10_000)
    assert world.of(do.SaveProgress)[-1].progress.stand_in == saved.stand_in
    assert world.of(do.SaveProgress)[-1].progress.seed != saved.seed


def test_controllers_see_what_is_coming() -> None:
    world = started(replace(PARAMS, strategy="uniform"), count=8)
    assert "no schedule yet" in world.ctrl("schedule")["error"]
    world.sleep(31)
    shown = world.ctrl("schedule")
    planned = {fp: row.slot for fp, row in world.plan().items() if row.slot is not None}
    assert (shown["slot"], shown["n_slots"], shown["planned"]) == (2, 10, len(planned))
    assert [row["slot"] for row in shown["slots"]] == sorted(set(planned.values()))
    first = shown["slots"][0]
    slot = world.ctrl(f"schedule slot {first['slot']}")
    here = sorted(fp for fp in planned if planned[fp] == first["slot"])
    assert sorted(row["fingerprint"] for row in slot["measurements"]) == here
    for row in slot["measurements"]:
        assert sum(measurer["rate_bytes"] for measurer in row["measurers"]) == row["rate_bytes"]
    of_relay = world.ctrl(f"schedule relay {here[0]}")
    assert [row["slot"] for row in of_relay["measurements"]] == [first["slot"]]
    assert of_relay["estimate_bytes"] == FLOOR_BYTES
    world.sleep(first["starts_utc_s"] - world.utc_s + 0.1)
    begun = {meas.relay.fingerprint: meas for meas in world.core.state.measurements.values()}
    for row in slot["measurements"]:
        shares = begun[row["fingerprint"]].shares
        assert {m["name"]: (m["rate_bytes"], m["n_circs"]) for m in row["measurers"]} == {
            share.name: (share.allocated_bytes, share.n_circs) for share in shares.values()
        }


@pytest.mark.parametrize("words", ["slot", "slot 10", "slot -1", "slot x", "relay nobody", "slot 1 2", "x"])
def test_a_wrong_question_about_the_schedule_is_refused(words: str) -> None:
    world = started()
    world.sleep(31)
    assert world.ctrl(f"schedule {words}")["kind"] == "ERR"
