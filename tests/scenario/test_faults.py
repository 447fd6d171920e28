"""Faults in every phase: whatever breaks, nothing is lost, nothing hangs, nothing half is published, and it goes on."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import events as cev
from coordinator.core.measurement import DEADLINES, GRACE_S, Phase
from coordinator.core.v3bw import build_v3bw
from flashflow.model.ids import Fingerprint
from flashflow.model.results import MeasurementRecord
from flashflow.model.timing import SETUP_S
from flashflow.store.latest import LatestResult
from flashflow.torctl import events as tor
from measurer.core import events as mev
from support.joined_world import World

LAST_REPORT_UNDER_WAY_S = 7.05
"""The measurers have counted their last second and the relay has said its own; their reports are on their way."""
MOMENTS = {
    "echo": [
        ("recording", 0.0),
        ("recording", 0.02),
        ("launching", 0.0),
        ("params", 0.0),
        ("connecting", 0.0),
        ("connecting", 0.05),
        ("starting", 0.0),
        ("active", 0.0),
        ("active", 3.5),
        ("active", 6.9),
        ("active", LAST_REPORT_UNDER_WAY_S),
        ("saving", 0.0),
    ],
    "loop": [
        ("recording", 0.0),
        ("connecting", 0.0),
        ("connecting", 0.3),
        ("active", 0.0),
        ("active", 3.5),
        ("active", 6.9),
        ("active", LAST_REPORT_UNDER_WAY_S),
        ("saving", 0.0),
    ],
}
WHEN = [(mode, *moment) for mode, moments in MOMENTS.items() for moment in moments]
LIMITS_S = {phase.value: limit(World().params) for phase, limit in DEADLINES.items()}
LONGEST_S = sum(limit_s for phase, limit_s in LIMITS_S.items() if phase != Phase.SAVING.value)
LIMITS_S |= {"set-up": SETUP_S, "suspected": GRACE_S}
SLACK_S = 0.1
"""A phase ends with the event after its deadline."""


def kill_measurer(world: World) -> None:
    world.measurers["m1"].end()
    world.clock.after(3.0, world.measurers["m1"].start)


def kill_coordinator(world: World) -> None:
    world.coordinator.end()
    world.clock.after(2.0, world.coordinator.start)


def kill_coordinator_after_a_record(world: World) -> None:
    world.coordinator.dies_after_a_record = True

    def forget() -> None:
        world.coordinator.dies_after_a_record = False

    world.clock.after(20.0, forget)


def kill_measurers_torclient(world: World) -> None:
    world.measurers["m1"].kill_tor()


def kill_coordinators_torclient(world: World) -> None:
    world.coordinator.kill_tor()


def hang_measurers_torclient(world: World) -> None:
    world.measurers["m1"].hang_tor()


def hang_coordinators_torclient(world: World) -> None:
    world.coordinator.hang_tor()


def kill_worker(world: World) -> None:
    host = world.measurers["m1"]
    for meas_id in list(host.tor_runs):
        host.tor_end(meas_id, "WORKER_LOST")


def kill_relay(world: World) -> None:
    for target in world.relays.values():
        target.mood = "gone"
    world.clock.after(20.0, lambda: honest(world))


def honest(world: World) -> None:
    for target in world.relays.values():
        target.mood = "honest"


def mood(name: str) -> Callable[[World], None]:
    def change(world: World) -> None:
        for target in world.relays.values():
            target.mood = name
        world.clock.after(20.0, lambda: honest(world))

    return change


def cut(seconds: float, *, silent: bool = False) -> Callable[[World], None]:
    """The connection of m1 is lost, or lets nothing through any more, for so long."""

    def change(world: World) -> None:
        host = world.measurers["m1"]
        if silent:
            host.link.silent = True
        else:
            host.link.reachable = False
            host.drop_link("connection reset")

        def heal() -> None:
            host.link.silent, host.link.reachable = False, True

        world.clock.after(seconds, heal)

    return change


def clocks(name: str, seconds: float) -> Callable[[World], None]:
    def change(world: World) -> None:
        host = world.coordinator if name == "coord" else world.measurers[name]
        host.utc_offset_s += seconds
        host.say(mev.LinkFailed("nothing", 1.0) if name != "coord" else cev.CtrlClosed(99))

    return change


def reports(change: Callable[[Any], list[Any]]) -> Callable[[World], None]:
    """What m1's Tor client says from now on; 20 s later it is well again."""

    def apply(world: World) -> None:
        world.reports = lambda name, report: change(report) if name == "m1" else [report]

        def heal() -> None:
            world.reports = lambda name, report: [report]

        world.clock.after(20.0, heal)

    return apply


def late(seconds: float) -> Callable[[World], None]:
    def change(world: World) -> None:
        link = world.measurers["m1"].link
        link.delay_s = seconds

        def heal() -> None:
            link.delay_s = 0.02

        world.clock.after(15.0, heal)

    return change


def reordered() -> Callable[[Any], list[Any]]:
    kept: list[Any] = []

    def change(report: Any) -> list[Any]:
        kept.append(report)
        return [] if len(kept) % 2 else [kept[-1], kept[-2]]

    return change


def slow(seconds: float) -> Callable[[World], None]:
    return lambda world: world.measurers["m1"].stop_for(seconds)


def store_fails(seconds: float) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.coordinator.store_fails = True

        def heal() -> None:
            world.coordinator.store_fails = False

        world.clock.after(seconds, heal)

    return change


def store_hangs(world: World) -> None:
    world.coordinator.store_delay_s = 80.0

    def heal() -> None:
        world.coordinator.store_delay_s = 0.05

    world.clock.after(20.0, heal)


def measurer_leaves(world: World) -> None:
    host = world.measurers["m1"]
    host.say(mev.StopRequested())

    def gone() -> None:
        host.end()
        world.clock.after(5.0, host.start)

    world.clock.after(12.0, gone)


def coordinator_drains(world: World) -> None:
    host = world.coordinator
    host.say(cev.StopRequested())

    def again() -> None:
        host.end()
        host.start()

    world.clock.after(30.0, again)


FAULTS: dict[str, Callable[[World], object]] = {
    "kill -9 of a measurer": kill_measurer,
    "kill -9 of the coordinator": kill_coordinator,
    "kill -9 of the coordinator after a record": kill_coordinator_after_a_record,
    "kill -9 of a measurer's torclient": kill_measurers_torclient,
    "kill -9 of the coordinator's torclient": kill_coordinators_torclient,
    "a measurer's torclient hangs": hang_measurers_torclient,
    "the coordinator's torclient hangs": hang_coordinators_torclient,
    "kill -9 of a worker": kill_worker,
    "kill -9 of the relay": kill_relay,
    "connection cut for 2 s": cut(2.0),
    "connection cut for 10 s": cut(10.0),
    "half-open for 2 s": cut(2.0, silent=True),
    "half-open for 10 s": cut(10.0, silent=True),
    "coordinator's clock an hour on": clocks("coord", 3600.0),
    "coordinator's clock an hour back": clocks("coord", -3600.0),
    "measurer's clock an hour on": clocks("m1", 3600.0),
    "measurer's clock an hour back": clocks("m1", -3600.0),
    "reports late by 2 s": late(2.0),
    "reports doubled": reports(lambda report: [report, report]),
    "reports missing": reports(lambda report: [] if report.second % 2 else [report]),
    "reports reordered": lambda world: reports(reordered())(world),
    "reports that contradict": reports(
        lambda report: [report, tor.BwReport(report.meas_id, report.second, 1, 1)]
    ),
    "measurer stopped for 2 s": slow(2.0),
    "measurer stopped for 10 s": slow(10.0),
    "measurer leaves": measurer_leaves,
    "controller goes": lambda world: world.coordinator.say(cev.CtrlClosed(1)),
    "relay refuses": mood("refuses"),
    "relay never answers": mood("mute"),
    "relay forges": mood("forges"),
    "disk full for 12 s": store_fails(12.0),
    "disk full for 80 s": store_fails(80.0),
    "store hangs for 80 s": store_hangs,
    "SIGTERM of the coordinator": coordinator_drains,
    "a measurer joins late": World.add_measurer,
}


def complaints(world: World) -> list[str]:
    """What must not be, once all is quiet again: the schedule may just have begun another measurement."""
    world.clock.run_until(world.clock.now_s + LONGEST_S, world.quiet)
    found = [f"{meas_id} is still in work" for meas_id in world.coordinator.core.state.measurements]
    state = world.coordinator.core.state
    if state.tor_commands or world.coordinator.tor_runs:
        found.append("the coordinator waits for its Tor client")
    for name, host in world.measurers.items():
        if host.core.state.measurements or host.core.state.calls or host.tor_runs:
            found.append(f"{name} has not ended: {host.core.state.measurements}")
    if any(target.rates for target in world.relays.values()):
        found.append("a relay is still loaded")
    for meas_id, (_, fingerprint) in world.begun.items():
        found += _of_record(world, meas_id, fingerprint)
    return found + _of_phases(world) + _of_file(world)


def _of_phases(world: World) -> list[str]:
    """Nothing is in a phase for longer than it may, whatever becomes of it later."""
    return [
        f"{meas_id} was in {phase} for {lasted_s:.1f} s"
        for meas_id, phase, lasted_s in world.all_stays()
        if lasted_s > LIMITS_S[phase] + SLACK_S
    ]


def _of_record(world: World, meas_id: int, fingerprint: Fingerprint) -> list[str]:
    record = world.record(meas_id)
    if record is None:  # a disk without room takes no record: then the log has it
        lost = f"measurement {meas_id} was not stored and is lost: "
        told = [text for _, _, text in world.log if text.startswith(lost) and fingerprint in text]
        return [] if told else [f"{meas_id} was lost without a word"]
    if len([one for one in world.coordinator.records if one.meas_id == meas_id]) > 1:
        return [f"{meas_id} was stored twice"]
    lasted_s = record.ended_utc_s - record.started_utc_s
    until_the_next_run = (
        record.failure is not None and "the coordinator ended during" in record.failure.reason
    )
    if abs(lasted_s) < 3000 and lasted_s > LONGEST_S and not until_the_next_run:
        return [f"{meas_id} took {lasted_s:.0f} s"]
    if record.result_bytes is None:
        complete = record.failure is not None and record.failure.reason and record.failure.kind
        return [] if complete else [f"{meas_id} failed without a reason"]
    return _of_result(world, record)


def _of_result(world: World, record: MeasurementRecord) -> list[str]:
    """A result is what the relay counted itself."""
    relay = world.relays[record.fingerprint]
    truth = relay.truth_bytes(record.meas_id, record.mode, world.params.warmup_s)
    if abs(record.result_bytes - truth) > 0.03 * truth:
        return [f"{record.meas_id}: measured {record.result_bytes}, the relay carried {truth}"]
    return []


def _of_file(world: World) -> list[str]:
    """The file has whole results only."""
    good = [record for record in world.coordinator.records if record.result_bytes is not None]
    latest = [
        LatestResult(
            one.fingerprint,
            one.nickname,
            one.mode,
            one.ended_utc_s,
            one.result_bytes or 0,
            0,
            one.accepted,
            None,
        )
        for one in good
    ]
    now_utc_s = world.coordinator.now.utc_s
    text = build_v3bw(
        latest, {}, now_utc_s=now_utc_s + 7200, started_utc_s=0.0, software_version="1", max_age_s=86400.0
    )
    lines = [line for line in (text or "").splitlines() if line.startswith("node_id")]
    if len(lines) != len({record.fingerprint for record in good}):
        return ["the file's relays are not those with a result"]
    found = []
    for line in lines:
        row = dict(pair.split("=", 1) for pair in line.split())
        whole = {record.result_bytes for record in good if f"${record.fingerprint}" == row["node_id"]}
        if int(row["ff_result"]) not in whole:
            found.append(f"the file has {row['ff_result']} for {row['node_id']}")
    return found


def goes_on(world: World) -> list[str]:
    """The same relay and another one are measured again."""
    assert world.clock.run_until(world.clock.now_s + 120.0, world.ready)
    found = []
    for number in (1, 2):
        meas_id = world.measure(number)
        record = world.measured(meas_id, 90.0) if meas_id else None
        if record is None or record.result_bytes is None:
            found.append(f"relay{number} cannot be measured any more: {record and record.failure}")
    return found


@pytest.mark.parametrize(("mode", "phase", "more_s"), WHEN, ids=lambda value: str(value))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_phase(fault: str, mode: str, phase: str, more_s: float) -> None:
    world = World(mode)
    first = world.measure(1)
    assert first is not None
    assert world.until_phase(first, phase, more_s)
    FAULTS[fault](world)
    world.measure(2)
    world.sleep(130.0)
    assert complaints(world) == []
    assert first in world.begun or phase == "recording"
    assert goes_on(world) == []
    assert complaints(world) == []


@pytest.mark.parametrize("mode", ["echo", "loop"])
def test_a_cut_of_two_seconds_costs_nothing(mode: str) -> None:
    world = World(mode)
    meas_id = world.measure(1)
    assert world.until_phase(meas_id, "active", 3.5)
    cut(2.0)(world)
    world.sleep(30.0)
    record = world.record(meas_id)
    assert record is not None
    assert record.failure is None
    assert [len(share.reports) for share in record.shares] == [5, 5]
    assert complaints(world) == []


@pytest.mark.parametrize("mode", ["echo", "loop"])
def test_a_cut_of_ten_seconds_costs_that_measurement_only(mode: str) -> None:
    world = World(mode)
    meas_id = world.measure(1)
    assert world.until_phase(meas_id, "active", 1.0)
    cut(10.0)(world)
    world.sleep(60.0)
    record = world.record(meas_id)
    assert record is not None
    assert record.failure is not None
    assert record.failure.fault == "measurer"
    assert "m1 was lost" in record.failure.reason
    assert complaints(world) == []
    assert goes_on(world) == []


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["echo", "loop"]),
    st.lists(st.tuples(st.floats(0.0, 12.0), st.sampled_from(sorted(FAULTS))), min_size=1, max_size=4),
)
def test_any_faults_at_any_moments(mode: str, script: list[tuple[float, str]]) -> None:
    world = World(mode)
    world.measure(1)
    for wait_s, fault in script:
        world.sleep(wait_s)
        if world.coordinator.up:
            FAULTS[fault](world)
    world.sleep(200.0)
    assert complaints(world) == []
    assert goes_on(world) == []


@pytest.mark.parametrize("mode", ["echo", "loop"])
def test_at_the_last_moment_only_the_measurers_last_reports_lack(mode: str) -> None:
    world = World(mode)
    meas_id = world.measure(1)
    assert world.until_phase(meas_id, "active", LAST_REPORT_UNDER_WAY_S)
    meas = world.coordinator.core.state.measurements[meas_id]
    assert [len(share.reports) for share in meas.shares.values()] == [4, 4]
    assert len(meas.background) == (5 if mode == "echo" else 0)
    assert not any(host.tor_runs for host in world.measurers.values())


@pytest.mark.parametrize(("mode", "phase", "more_s"), WHEN, ids=lambda value: str(value))
def test_a_measurer_that_joins_late_has_a_part_in_what_begins_next(
    mode: str, phase: str, more_s: float
) -> None:
    world = World(mode)
    first = world.measure(1)
    assert world.until_phase(first, phase, more_s)
    late_one = world.add_measurer()
    world.sleep(60.0)
    assert [share.name for share in world.record(first).shares] == ["m1", "m2"]
    second = world.measure(2)
    record = world.measured(second, 60.0)
    assert [share.name for share in record.shares] == ["m1", "m2", late_one]
    assert record.failure is None
    assert complaints(world) == []


def plant(world: World, planted: str, meas_id: int) -> None:
    """Break what nothing may break."""
    if planted == "hangs":
        world.coordinator.stopped = True
    elif planted == "overstays":
        world.coordinator.core.state.measurements[meas_id].deadline_s += 5.0
    elif planted == "twice":
        world.coordinator.records.append(world.coordinator.records[-1])
    elif planted == "lost":
        world.coordinator.records.clear()
    elif planted == "lost with half a word":
        world.coordinator.records.clear()
        world.log.append((world.clock.now_s, "coord", f"measurement {meas_id} could not be stored: no room"))


PLANTED = {
    "twice": "was stored twice",
    "fifth": "the relay carried",
    "lost": "was lost without a word",
    "lost with half a word": "was lost without a word",
    "hangs": "is still in work",
    "overstays": "was in params for 15.0 s",
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_fault_is_found(planted: str) -> None:
    world = World()
    if planted == "fifth":
        world.reports = lambda name, report: [
            tor.BwReport(report.meas_id, report.second, report.sent_bytes, report.recv_bytes * 4 // 5)
        ]
    meas_id = world.measure(1)
    if planted == "overstays":
        mood("mute")(world)
        assert world.until_phase(meas_id, "params")
    else:
        world.sleep(5.0 if planted == "hangs" else 30.0)
    plant(world, planted, meas_id)
    if planted == "overstays":
        world.sleep(30.0)
    found = complaints(world)
    assert any(line.startswith(str(meas_id)) and PLANTED[planted] in line for line in found), found
