"""A measurement through its phases: what goes right, and every way in which it may go wrong, on a virtual clock."""

from typing import Any

import pytest

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.assign import announced_host
from coordinator.core.measurement import DEADLINES, MEASURER_LEGAL, TOR_LEGAL, TRANSITIONS, Phase
from flashflow.model.errors import ErrorKind
from flashflow.model.results import Standing
from flashflow.torctl import events as tor
from flashflow.torctl.client import SendTorCommand, TorCameUp, TorWasLost
from flashflow.wire import messages as wire
from support.coordinator_world import World, relay

PHASES = ["recording", "launching", "params", "connecting", "starting", "active"]


@pytest.fixture
def world() -> World:
    world = World()
    world.start()
    return world


def test_whole_measurement(world: World) -> None:
    meas_id = world.to_phase("active")
    launch, begin = world.of(SendTorCommand)
    assert launch.line.startswith(f"COORD_START_MEAS {meas_id} {relay(1).fingerprint} 7 ")
    assert launch.line.count("MEASURER=") == 2
    assert begin.line == f"COORD_START_MEAS {meas_id} {relay(1).fingerprint} 7"
    asked = [e.message for e in world.of(do.SendToMeasurer)]
    assert [type(m) for m in asked] == [wire.ConnectToRelay] * 2 + [wire.Go] * 2
    assert [m.rate_bytes for m in asked[:2]] == [62_500_000] * 2  # no estimate yet: the whole team
    assert asked[0].token != asked[1].token
    world.play_seconds(1, 7, recv=1_000_000, bg=300_000)
    (saved,) = world.of(do.SaveMeasurement)
    assert saved.record.result_bytes == 2_300_000
    assert saved.record.background_bytes == 300_000
    assert saved.record.accepted
    assert saved.record.active_utc_s == saved.record.started_utc_s + 2
    assert len(saved.record.background) == 5
    assert not world.events_to(1, "done")  # not before it is on disk
    done = world.store()
    assert (done["outcome"], done["result_bytes"]) == ("ok", 2_300_000)
    assert [e["total_bytes"] for e in world.events_to(1, "second")] == [2_300_000] * 5
    assert [e["phase"] for e in world.events_to(1, "phase")] == [*PHASES, "saving"]
    assert not world.core.state.measurements


def test_second_measurement_is_loaded_by_the_estimate(world: World) -> None:
    world.to_phase("active")
    world.play_seconds(1, 7, recv=1_000_000)
    world.store()
    world.effects.clear()
    world.to_phase("connecting")
    rates = [e.message.rate_bytes for e in world.of(do.SendToMeasurer)]
    assert sum(rates) in range(5_905_000, 5_906_251)  # 2.953125 x 2,000,000, halves rounded down
    assert rates[0] == rates[1]


@pytest.mark.parametrize(("recv", "accepted"), [(22_222_222, True), (22_222_223, False)])
def test_a_result_near_the_allocation_is_a_lower_bound(world: World, recv: int, accepted: bool) -> None:
    """Accepted below 125,000,000 x 0.8 / 2.25 = 44,444,444.4 bytes/s."""
    world.to_phase("active")
    world.play_seconds(1, 7, recv=recv)
    assert world.store()["accepted"] is accepted


@pytest.mark.parametrize("phase", PHASES)
def test_each_phase_has_a_deadline(world: World, phase: str) -> None:
    world.to_phase(phase)
    world.sleep(20)
    done = world.store()
    assert done["outcome"] == "failed"
    assert done["failure"]["reason"]
    assert not world.core.state.measurements


@pytest.mark.parametrize("phase", PHASES)
def test_everyone_is_stopped_when_it_fails(world: World, phase: str) -> None:
    """Nobody has heard of one that is being recorded."""
    meas_id = world.to_phase(phase)
    world.ctrl(f"cancel {meas_id}")
    commands = [e.line for e in world.of(SendTorCommand)]
    assert commands[-1:] == ([] if phase == "recording" else [f"FF_STOP {meas_id}"])
    stops = [e for e in world.of(do.SendToMeasurer) if isinstance(e.message, wire.Stop)]
    assert [e.name for e in stops] == ([] if phase == "recording" else ["m1", "m2"])
    assert world.store()["failure"] == {
        "kind": "local",
        "fault": "ours",
        "reason": "cancelled by a controller",
        "forged": False,
    }


@pytest.mark.parametrize("phase", PHASES)
def test_losing_the_tor_client_fails_it(world: World, phase: str) -> None:
    world.to_phase(phase)
    world.say(TorWasLost("control connection closed"))
    assert "control connection closed" in world.store()["failure"]["reason"]
    assert world.ctrl("measure relay1")["kind"] == "ERR"


@pytest.mark.parametrize("phase", PHASES)
def test_losing_a_measurer_fails_it(world: World, phase: str) -> None:
    world.to_phase(phase)
    world.say(ev.MeasurerGone("m2", "no heartbeat"))
    done = world.store()
    assert done["failure"]["kind"] == "network"
    assert "m2" in done["failure"]["reason"]


def test_losing_a_measurer_in_the_last_fifth_does_not() -> None:
    world = World()
    world.start()
    world.to_phase("active")
    world.play_seconds(1, 6)
    world.say(ev.MeasurerGone("m2", "no heartbeat"))
    world.sleep(1)
    world.background(7, 0, 0)
    world.report("m1", 5, 1_000_000)
    done = world.store()
    assert (done["outcome"], done["result_bytes"]) == ("ok", 2_000_000)


@pytest.mark.parametrize("legal_in", ["connecting", "active"])
def test_a_measurers_failure_message_fails_it(world: World, legal_in: str) -> None:
    meas_id = world.to_phase(legal_in)
    message = wire.Failure(
        meas_id=meas_id, code="LAUNCH_CIRCS", kind=ErrorKind.NETWORK, reason="none of 4 circuits"
    )
    world.say(ev.MeasurerSaid("m1", message))
    assert world.store()["failure"] == {
        "kind": "network",
        "fault": "network",
        "reason": "measurer m1: LAUNCH_CIRCS: none of 4 circuits",
        "forged": False,
    }


def test_the_relays_fault_fails_it_even_late(world: World) -> None:
    meas_id = world.to_phase("active")
    world.play_seconds(1, 6)
    message = wire.Failure(
        meas_id=meas_id, code="MEASUREMENT_FAILED", kind=ErrorKind.PEER, reason="echo wrong"
    )
    world.say(ev.MeasurerSaid("m1", message))
    world.sleep(1.1)
    assert world.store()["failure"]["kind"] == "peer"


def test_refused_by_the_relay(world: World) -> None:
    meas_id = world.to_phase("params")
    world.say(tor.ParamsOk(meas_id, False, "REFUSED_TOO_MANY"))
    failure = world.store()["failure"]
    assert failure["kind"] == "peer"
    assert failure["reason"].startswith("the relay refused: ")


@pytest.mark.parametrize("accepted", [True, False])
def test_an_answer_of_the_relay_that_overtakes_the_tor_clients_reply_counts(
    world: World, accepted: bool
) -> None:
    """Events and replies come over different threads of stem's: no order holds between them."""
    meas_id = world.to_phase("launching")
    world.say(tor.ParamsSent(meas_id))
    assert world.say(tor.ParamsOk(meas_id, accepted, None if accepted else "REFUSED_BUSY")) == []
    assert world.meas.phase is Phase.LAUNCHING
    effects = world.reply("LAUNCHED 7")
    if accepted:
        assert world.meas.phase is Phase.CONNECTING
        assert [effect.name for effect in world.of(do.SendToMeasurer, effects)] == ["m1", "m2"]
    else:
        failure = world.store()["failure"]
        assert (failure["fault"], failure["reason"]) == (
            "relay",
            "the relay refused: the relay is being measured already",
        )


@pytest.mark.parametrize("answer", ["", "NONSENSE", "LAUNCHED"])
def test_malformed_launch_reply(world: World, answer: str) -> None:
    world.to_phase("launching")
    world.reply(answer)
    assert "makes no sense" in world.store()["failure"]["reason"]


def test_refused_launch_and_refused_start(world: World) -> None:
    world.to_phase("launching")
    world.reply("no such relay", ok=False)
    assert "no such relay" in world.store()["failure"]["reason"]
    world.to_phase("starting")
    world.reply("not now", ok=False)
    assert "would not start: not now" in world.store()["failure"]["reason"]


def test_circuit_lost_before_the_traffic(world: World) -> None:
    world.to_phase("params")
    world.say(tor.CircEvent("7", "CLOSED", "DESTROYED"))
    world.sleep(1.1)
    assert world.store()["failure"] == {
        "kind": "network",
        "fault": "network",
        "reason": "the circuit to the relay was closed (DESTROYED)",
        "forged": False,
    }


def test_the_tor_clients_own_reason_wins_over_circ_closed(world: World) -> None:
    meas_id = world.to_phase("params")
    world.say(tor.CircEvent("7", "FAILED", "TIMEOUT"))
    world.say(tor.MeasEnd(meas_id, False, "NOT_SUPPORTED"))
    assert "closed" not in world.store()["failure"]["reason"]


def test_other_circuits_do_not_matter(world: World) -> None:
    world.to_phase("params")
    for event in (tor.CircEvent("8", "CLOSED", None), tor.CircEvent("7", "BUILT", None)):
        assert world.say(event) == []


def test_relay_that_ends_early_has_failed(world: World) -> None:
    meas_id = world.to_phase("active")
    world.play_seconds(1, 5)
    world.say(tor.MeasEnd(meas_id, True, None))
    failure = world.store()["failure"]
    assert failure == {
        "kind": "peer",
        "fault": "relay",
        "reason": "the relay ended the measurement too early",
        "forged": False,
    }


def test_relay_that_ends_within_the_last_second_is_normal(world: World) -> None:
    meas_id = world.to_phase("active")
    world.play_seconds(1, 6)
    world.sleep(0.5)
    world.say(tor.MeasEnd(meas_id, False, "RELAY_CLOSED"))
    world.sleep(0.6)
    for name in ("m1", "m2"):
        world.report(name, 5, 1_000_000)
    assert world.store()["outcome"] == "ok"


def test_missing_background_counts_zero_after_the_drain(world: World) -> None:
    world.to_phase("active")
    for second in range(1, 6):
        world.sleep(1.4 if second > 1 else 3.0)
        for name in ("m1", "m2"):
            world.report(name, second, 1_000_000)
    assert world.meas.phase.value == "active"
    world.sleep(6)
    assert world.store()["result_bytes"] == 2_000_000


@pytest.mark.parametrize(("second", "what"), [(2, "out of order"), (0, "out of order"), (9, "out of order")])
def test_background_out_of_order_is_the_relays_fault(world: World, second: int, what: str) -> None:
    world.to_phase("active")
    world.sleep(9)
    world.background(second, 1, 1)
    failure = world.store()["failure"]
    assert failure["kind"] == "peer"
    assert what in failure["reason"]


def test_early_background_is_the_relays_fault(world: World) -> None:
    world.to_phase("active")
    world.sleep(1.0)
    world.background(1, 1, 1)
    world.background(2, 1, 1)  # at start + 1.0 s: the earliest that is allowed
    assert world.meas.phase.value == "active"
    world.background(3, 1, 1)
    assert "too early" in world.store()["failure"]["reason"]


def test_repeats_are_ignored_and_contradictions_are_faults(world: World) -> None:
    world.to_phase("active")
    world.play_seconds(1, 4)
    assert world.background(4, 0, 0) == []
    assert world.report("m1", 2, 1_000_000) == []
    world.report("m1", 2, 999_999)
    failure = world.store()["failure"]
    assert failure["kind"] == "local"
    assert "m1 broke the protocol" in failure["reason"]


def test_background_contradiction_is_a_fault(world: World) -> None:
    world.to_phase("active")
    world.play_seconds(1, 4)
    world.background(4, 1, 0)
    assert world.store()["failure"]["kind"] == "peer"


def test_a_skipped_report_is_a_fault(world: World) -> None:
    world.to_phase("active")
    world.sleep(5)
    world.report("m1", 2, 5)
    assert "report 2 (expected 1 of 5)" in world.store()["failure"]["reason"]


def test_a_report_before_its_second_is_a_fault(world: World) -> None:
    world.to_phase("active")
    world.sleep(1.9)
    world.report("m1", 1, 5)
    assert "only 1.9 s after Go" in world.store()["failure"]["reason"]


def test_messages_of_strangers_are_denied_and_change_nothing(world: World) -> None:
    meas_id = world.to_phase("active")
    world.say(ev.MeasurerJoined("m3", 1000, "127.0.0.3"))
    world.effects.clear()
    for message in (
        wire.BwReport(meas_id=meas_id, second=1, sent_bytes=1, recv_bytes=1),
        wire.ConnectedToRelay(meas_id=meas_id, n_circs=1),
        wire.BwReport(meas_id=12345, second=1, sent_bytes=1, recv_bytes=1),
        wire.Go(meas_id=meas_id),
    ):
        world.say(ev.MeasurerSaid("m3", message))
    assert [e.message.code for e in world.of(do.SendToMeasurer)] == ["M_UNKNOWN_MEAS_ID"] * 4
    world.play_seconds(1, 7)
    assert world.store()["result_bytes"] == 2_000_000


def test_connected_twice_is_a_fault_of_that_measurer(world: World) -> None:
    meas_id = world.to_phase("connecting")
    for _ in range(2):
        world.say(ev.MeasurerSaid("m1", wire.ConnectedToRelay(meas_id=meas_id, n_circs=20)))
    assert "second ConnectedToRelay" in world.store()["failure"]["reason"]


def test_fewer_than_half_of_the_circuits_is_a_fault(world: World) -> None:
    meas_id = world.to_phase("connecting")
    few = (world.meas.shares["m1"].n_circs - 1) // 2
    world.say(ev.MeasurerSaid("m1", wire.ConnectedToRelay(meas_id=meas_id, n_circs=few)))
    assert "circuits" in world.store()["failure"]["reason"]


def test_half_of_the_circuits_is_enough(world: World) -> None:
    meas_id = world.to_phase("connecting")
    for name, share in world.meas.shares.items():
        n_circs = (share.n_circs + 1) // 2
        world.say(ev.MeasurerSaid(name, wire.ConnectedToRelay(meas_id=meas_id, n_circs=n_circs)))
    assert world.meas.phase is Phase.STARTING


def test_late_messages_are_no_fault(world: World) -> None:
    meas_id = world.to_phase("active")
    world.ctrl(f"cancel {meas_id}")
    for event in (
        ev.MeasurerSaid("m1", wire.BwReport(meas_id=meas_id, second=1, sent_bytes=1, recv_bytes=1)),
        tor.BwReport(meas_id, 1, 1, 1),
        tor.MeasEnd(meas_id, False, "STOPPED"),
    ):
        assert world.say(event) == []
    world.store()
    assert world.say(tor.MeasEnd(meas_id, False, "STOPPED")) == []


def test_a_record_that_cannot_be_stored_is_tried_again_and_never_told_as_done(world: World) -> None:
    meas_id = world.to_phase("active")
    world.play_seconds(1, 7)
    world.say(ev.MeasurementNotStored(meas_id, "disk full"))
    assert len(world.of(do.SaveMeasurement)) == 1
    world.sleep(5.5)
    assert len(world.of(do.SaveMeasurement)) == 2
    assert world.store()["outcome"] == "ok"


def test_a_record_that_can_never_be_stored_is_a_failure(world: World) -> None:
    world.to_phase("active")
    world.play_seconds(1, 7)
    world.sleep(61)
    (done,) = world.events_to(1, "done")
    assert done["outcome"] == "failed"
    assert any("is lost" in e.text for e in world.of(do.Log))


def test_two_measurements_share_the_team_and_do_not_mix(world: World) -> None:
    """With estimates, two relays fit at once; reports go to the measurement that they name."""
    for nick in ("relay1", "relay2"):
        world.to_phase("active", nick)
        world.play_seconds(1, 7, recv=1_000_000)
        world.store()
    first, second = (world.ctrl(f"measure {nick}")["meas_id"] for nick in ("relay1", "relay2"))
    assert sorted(world.core.state.measurements) == sorted([first, second])
    assert world.core.state.free_bytes("m1") == 62_500_000 - 2 * 2_953_125


def test_tables_are_complete() -> None:
    """Every running phase can fail, has a deadline, and every phase can be reached."""
    running = {Phase(name) for name in PHASES}
    assert {phase for phase, trigger in TRANSITIONS if trigger.value == "failed"} == running
    assert set(DEADLINES) == running | {Phase.SAVING}
    assert set(TRANSITIONS.values()) == set(Phase) - {Phase.RECORDING}
    for legal in (MEASURER_LEGAL, TOR_LEGAL):
        assert all(phases <= running - {Phase.RECORDING} for phases in legal.values())


def test_advance_of_an_unlisted_pair_is_a_bug(world: World) -> None:
    from coordinator.core.measurement import Trigger

    world.to_phase("params")
    with pytest.raises(KeyError):
        world.meas.advance(Trigger.STORED, world.now, world.params)


def test_rate_limit_of_the_filter_bounds_the_load() -> None:
    world = World()
    world.start(filter_text=f"allow {relay(1).fingerprint} rate=40\n")
    world.to_phase("connecting")
    asked: list[Any] = [e.message for e in world.of(do.SendToMeasurer)]
    assert sum(m.rate_bytes for m in asked) == 5_000_000


@pytest.mark.parametrize(
    ("measurer", "target", "announced"),
    [
        ("192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("127.0.0.1", "127.0.0.5", "127.0.0.1"),
        ("127.0.0.1", "198.51.100.7", "0.0.0.0"),
        ("2001:db8::1", "198.51.100.7", "::"),
        ("192.0.2.1", "2001:db8::7", "0.0.0.0"),
        ("::1", "::1", "::1"),
    ],
)
def test_the_relay_is_told_of_an_address_only_where_it_will_see_it(
    measurer: str, target: str, announced: str
) -> None:
    assert announced_host(measurer, target) == announced


def test_a_relay_that_has_grown_is_found_out(world: World) -> None:
    """Its estimate of 2,000,000 allows 2,100,000 at most; a lower bound above the estimate ends that."""
    world.to_phase("active")
    world.play_seconds(1, 7, recv=1_000_000)
    world.store()
    world.to_phase("active")
    world.play_seconds(1, 7, recv=2_900_000)
    assert world.store()["accepted"] is False
    world.to_phase("active")
    assert world.meas.allocated_bytes == 125_000_000
    world.play_seconds(1, 7, recv=10_000_000)
    assert world.store()["accepted"] is True
    assert world.core.state.results[relay(1).fingerprint].result_bytes == 20_000_000


@pytest.mark.parametrize("phase", PHASES)
def test_a_malformed_event_is_told_and_changes_nothing(world: World, phase: str) -> None:
    world.to_phase(phase)
    before = repr(world.core.state)
    (told,) = world.say(tor.EventError("FF_MEAS event: SECOND=x, a number expected"))
    assert told == do.warn("the Tor client: FF_MEAS event: SECOND=x, a number expected")
    assert repr(world.core.state) == before


def test_of_a_large_team_the_ten_with_most_room_take_part(world: World) -> None:
    for number in range(3, 15):
        world.say(ev.MeasurerJoined(f"m{number:02}", 1_000_000 * number, "127.0.0.1"))
    world.to_phase("launching")
    assert sorted(world.meas.shares) == ["m07", "m08", "m09", "m1", "m10", "m11", "m12", "m13", "m14", "m2"]
    assert world.meas.allocated_bytes == 125_000_000 + 1_000_000 * sum(range(7, 15))
    assert world.of(SendTorCommand)[0].line.count("MEASURER=") == 10


def test_what_waits_for_the_tor_client_or_for_its_relay_holds_up_nobody(world: World) -> None:
    world.start(filter_text=f"allow {relay(2).fingerprint} mode=loop\nallow *\n")
    world.ctrl("measure relay1")
    world.say(TorWasLost("gone"))
    assert world.core.state.measurements
    world.say(TorCameUp())
    again = world.ctrl("measure relay1")["meas_id"]  # relay1 is being saved, so this waits
    world.ctrl("measure relay2")
    assert [meas.relay.nickname for meas in world.core.state.measurements.values()] == ["relay1", "relay2"]
    assert [request.meas_id for request in world.core.state.queue] == [again]


def held_against(world: World) -> tuple[int, int, bool]:
    (row,) = [row for row in world.ctrl("relays")["relays"] if row["nickname"] == "relay1"]
    return row["relay_failures"], row["forgeries"], row["excluded"]


def failed_by(world: World, code: str, kind: ErrorKind) -> dict[str, Any]:
    meas_id = world.to_phase("active")
    world.say(ev.MeasurerSaid("m1", wire.Failure(meas_id=meas_id, code=code, kind=kind, reason="so it is")))
    world.sleep(1.1)  # what is held against the relay waits for what the Tor client has to say
    return world.store()["failure"]


@pytest.mark.parametrize(
    ("code", "kind", "fault", "forged"),
    [
        ("MEASUREMENT_FAILED", ErrorKind.PEER, "relay", False),
        ("ECHO_FORGED", ErrorKind.PEER, "relay", True),
        ("ECHO_FORGED", ErrorKind.LOCAL, "measurer", False),
        ("LAUNCH_CIRCS", ErrorKind.NETWORK, "network", False),
        ("TOR_CLIENT_LOST", ErrorKind.LOCAL, "measurer", False),
    ],
)
def test_what_a_measurer_says_is_held_against_whose_fault_it_was(
    world: World, code: str, kind: ErrorKind, fault: str, forged: bool
) -> None:
    failure = failed_by(world, code, kind)
    assert (failure["fault"], failure["forged"]) == (fault, forged)
    expected = (1, int(forged), forged) if fault == "relay" else (0, 0, False)
    assert held_against(world) == expected


def test_three_failures_by_the_relay_in_a_row_exclude_it() -> None:
    found = []
    standings: tuple[Standing, ...] = ()
    for _ in range(3):
        world = World()
        world.start(standings=standings)
        failed_by(world, "MEASUREMENT_FAILED", ErrorKind.PEER)
        found.append(held_against(world))
        standings = tuple(world.core.state.standings.values())
    assert found == [(1, 0, False), (2, 0, False), (3, 0, True)]
