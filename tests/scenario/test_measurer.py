"""The measurer's part of a measurement, event by event: no sockets, a clock of its own."""

import pytest

from flashflow.model.errors import ErrorKind
from flashflow.torctl import events as tor
from flashflow.torctl.client import TorCameUp, TorReplied, TorWasLost
from flashflow.torctl.commands import MeasrStart, parse_command
from flashflow.wire import messages as wire
from measurer.core import effects as do
from measurer.core import events as ev
from measurer.core.measurement import Phase
from support.measurer_world import MAX_RATE_BYTES, World, commands, failures, in_phase, lines, only, sent
from support.wire_pair import TOKEN, order

STOPPED = tor.MeasEnd(1, success=False, reason="STOPPED")


def test_a_measurement_from_start_to_end() -> None:
    world = World().up()
    effects = world.coordinator(order())
    command = parse_command(lines(effects)[0])
    assert isinstance(command, MeasrStart)
    assert (command.n_circs, command.dur_s, command.rate_bytes, command.warmup_s) == (4, 10, 1_000_000, 2)
    assert (command.token, command.bucket_cells, command.mode) == (bytes.fromhex(TOKEN), 125, "echo")
    assert str(command.target.address if command.target else None) == "192.0.2.7:9001"
    assert sent(world.reply(effects, "FF_MEAS 1 LAUNCHED CIRCS=1,2,3,4")) == []
    assert sent(world.built(1, 2, 3)) == []
    assert sent(world.built(4)) == [wire.ConnectedToRelay(meas_id=1, n_circs=4)]
    effects = world.coordinator(wire.Go(meas_id=1))
    assert lines(effects) == [f"MEASR_START_MEAS 1 {'AB' * 20} 4 10"]
    world.reply(effects)
    assert world.phase() is Phase.ACTIVE
    for second in range(1, 11):
        effects = world.say(tor.BwReport(1, second, 100 * second, 99 * second))
        expected = wire.BwReport(meas_id=1, second=second, sent_bytes=100 * second, recv_bytes=99 * second)
        assert sent(effects) == [expected]
    effects = world.say(tor.MeasEnd(1, success=True))
    assert sent(effects) == commands(effects) == []
    assert world.meas() is None
    assert world.core.next_timer() is None
    assert world.core.state.calls == {}


def test_the_token_shows_in_no_log_line() -> None:
    world = World().up().active()
    world.say(tor.MeasEnd(1, success=False, reason="ECHO_WRONG"))
    assert len(only(world.effects, do.Log)) > 4
    assert not any(TOKEN in effect.text for effect in only(world.effects, do.Log))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"relay_addr": "198.51.100.1:9001"}, "TARGET_NOT_ALLOWED"),
        ({"relay_addr": "127.0.0.1:9001"}, "TARGET_NOT_ALLOWED"),
        ({"relay_addr": "[::1]:9001"}, "TARGET_NOT_ALLOWED"),
        ({"relay_addr": "relay.example:9001"}, "TARGET_NOT_ALLOWED"),
        ({"relay_addr": "192.0.2.7:0"}, "TARGET_NOT_ALLOWED"),
        ({"rate_bytes": MAX_RATE_BYTES + 1}, "RATE_EXCEEDED"),
    ],
)
def test_its_own_limits_bind_whatever_the_coordinator_asks(changes: dict[str, object], code: str) -> None:
    world = World().up()
    effects = world.coordinator(order(**changes))
    assert failures(effects) == [(1, code, "local")]
    assert commands(effects) == []
    assert world.meas() is None


def test_an_ipv6_relay_is_measured_if_its_network_is_allowed() -> None:
    world = World().up()
    effects = world.coordinator(order(relay_addr="[2001:db8::7]:9001"))
    assert "ADDR=[2001:db8::7]:9001" in lines(effects)[0]


def test_the_rate_is_summed_over_running_measurements() -> None:
    world = World().up()
    world.launch(1, rate_bytes=MAX_RATE_BYTES - 5)
    assert failures(world.coordinator(order(2, rate_bytes=6))) == [(2, "RATE_EXCEEDED", "local")]
    assert failures(world.coordinator(order(3, rate_bytes=5))) == []
    world.coordinator(wire.Stop(meas_id=1, reason="enough"))  # what is being stopped sends no more
    assert failures(world.coordinator(order(4, rate_bytes=6))) == []


def test_an_id_in_use_is_refused_and_the_running_measurement_goes_on() -> None:
    world = World().up().active()
    assert failures(world.coordinator(order(1))) == [(1, "M_DUPE_MEAS_ID", "bug")]
    assert world.phase() is Phase.ACTIVE


def test_without_a_tor_client_nothing_is_taken_on() -> None:
    world = World()
    world.say(ev.LinkUp("192.0.2.1", resumed=False))
    assert failures(world.coordinator(order())) == [(1, "TOR_CLIENT_LOST", "local")]


def test_half_of_the_circuits_are_enough() -> None:
    world = World().up()
    world.launch()
    world.failed(1, 2)
    world.built(3)
    assert sent(world.built(4)) == [wire.ConnectedToRelay(meas_id=1, n_circs=2)]
    assert lines(world.coordinator(wire.Go(meas_id=1))) == [f"MEASR_START_MEAS 1 {'AB' * 20} 2 10"]


def test_fewer_than_half_are_a_failure_with_the_reason_of_the_last() -> None:
    world = World().up()
    world.launch()
    world.built(1)
    effects = world.failed(2, 3, 4, reason="CERTS_INVALID")
    assert failures(effects) == [(1, "LAUNCH_CIRCS", "peer")]
    assert "1 of 4 circuits could be built: the relay does not prove" in sent(effects)[0].reason
    assert lines(effects) == ["FF_STOP 1"]


def test_at_the_deadline_half_of_the_circuits_are_enough_and_fewer_are_not() -> None:
    world = World().up()
    world.launch()
    world.launch(2, "5,6,7,8")
    world.built(1, 2, 5)
    effects = world.advance(9.0)
    assert wire.ConnectedToRelay(meas_id=1, n_circs=2) in sent(effects)
    assert failures(effects) == [(2, "LAUNCH_CIRCS", "network")]


def test_circuits_that_were_built_before_the_reply_count() -> None:
    world = World().up()
    effects = world.coordinator(order())
    world.built(1, 2)
    world.failed(3)
    world.reply(effects, "FF_MEAS 1 LAUNCHED CIRCS=1,2,3,4")
    assert sent(world.built(4)) == [wire.ConnectedToRelay(meas_id=1, n_circs=3)]
    assert world.core.state.early_circuits == {}


def test_circuits_lost_while_waiting_for_go_are_a_failure_below_half() -> None:
    world = World().up()
    world.launch()
    world.built(1, 2, 3, 4)
    assert failures(world.failed(1, 2, status="CLOSED")) == []
    assert failures(world.failed(3, status="CLOSED")) == [(1, "LAUNCH_CIRCS", "network")]


def test_other_circuits_and_statuses_mean_nothing() -> None:
    world = World().up()
    world.launch()
    assert world.built(99) == world.failed(98) == []
    assert world.say(tor.CircEvent("1", "EXTENDED"), tor.ParamsSent(1), tor.ParamsOk(1, accepted=True)) == []
    assert world.phase() is Phase.BUILDING
    assert world.core.state.early_circuits == {}


def test_a_refused_launch_is_a_failure() -> None:
    world = World().up()
    effects = world.reply(world.coordinator(order()), "a measurement 1 is in work", ok=False)
    assert failures(effects) == [(1, "LAUNCH_CIRCS", "local")]
    assert "a measurement 1 is in work" in sent(effects)[0].reason
    world.reply(effects, "unknown measurement", ok=False)
    assert world.meas() is None


@pytest.mark.parametrize(
    "text",
    [
        "OK",
        "",
        "FF_MEAS 2 LAUNCHED CIRCS=1,2",
        "FF_MEAS 1 LAUNCHED CIRCS=",
        "FF_MEAS 1 LAUNCHED CIRCS=1,,2",
        "FF_MEAS 1 LAUNCHED CIRCS=1,1",
        "FF_MEAS 1 LAUNCHED CIRCS=1,2,3,4,5",
        "FF_MEAS one LAUNCHED CIRCS=1",
        "\x00\n" * 100,
    ],
)
def test_a_reply_that_makes_no_sense_is_a_failure(text: str) -> None:
    world = World().up()
    effects = world.reply(world.coordinator(order()), text)
    assert failures(effects) == [(1, "MALFORMED_TOR_RESP", "local")]
    assert lines(effects) == ["FF_STOP 1"]


def test_circuits_of_another_measurement_are_not_taken() -> None:
    world = World().up()
    world.launch()
    assert failures(world.launch(2, "4,5,6,7")) == [(2, "MALFORMED_TOR_RESP", "local")]
    assert world.phase(1) is Phase.BUILDING


def test_go_for_an_unknown_measurement_is_denied() -> None:
    assert failures(World().up().coordinator(wire.Go(meas_id=9))) == [(9, "M_UNKNOWN_MEAS_ID", "local")]


@pytest.mark.parametrize("phase", [Phase.LAUNCHING, Phase.BUILDING, Phase.STARTING, Phase.ACTIVE])
def test_go_out_of_turn_fails_the_measurement(phase: Phase) -> None:
    world = in_phase(phase)
    effects = world.coordinator(wire.Go(meas_id=1))
    assert failures(effects) == [(1, "M_START_ACTIVE_MEAS", "bug")]
    assert lines(effects) == ["FF_STOP 1"]


@pytest.mark.parametrize("phase", list(Phase))
def test_every_phase_ends_at_its_deadline(phase: Phase) -> None:
    world = in_phase(phase)
    effects = world.advance(60.0)
    assert world.meas() is None
    assert len(failures(effects)) == (0 if phase is Phase.STOPPING else 1)
    assert lines(effects) == ([] if phase is Phase.STOPPING else ["FF_STOP 1"])
    assert world.core.next_timer() is None


@pytest.mark.parametrize("phase", list(Phase))
def test_stop_ends_traffic_in_every_phase_without_a_failure(phase: Phase) -> None:
    world = in_phase(phase)
    effects = world.coordinator(wire.Stop(meas_id=1, reason="cancelled"))
    assert lines(effects) == ([] if phase is Phase.STOPPING else ["FF_STOP 1"])
    assert sent(effects) == []
    assert sent(world.say(tor.BwReport(1, 1, 5, 5))) == []
    assert sent(world.say(STOPPED)) == []
    assert world.meas() is None
    assert world.coordinator(wire.Stop(meas_id=1, reason="again")) == []


@pytest.mark.parametrize("phase", list(Phase))
def test_a_lost_tor_client_fails_what_runs_in_every_phase(phase: Phase) -> None:
    world = in_phase(phase)
    effects = world.say(TorWasLost("it ended with status -9"))
    told = [] if phase is Phase.STOPPING else [(1, "TOR_CLIENT_LOST", "local")]
    assert failures(effects) == told
    assert world.meas() is None
    assert failures(world.coordinator(order())) == [(1, "TOR_CLIENT_LOST", "local")]
    world.say(TorCameUp())
    assert len(lines(world.coordinator(order()))) == 1


@pytest.mark.parametrize("phase", list(Phase))
def test_five_seconds_without_a_session_stop_all_traffic(phase: Phase) -> None:
    world = in_phase(phase)
    world.say(ev.LinkDown("no heartbeat for 3.5 s", heard_mono_s=world.mono_s - 3.5))
    assert world.advance(1.4) == []
    effects = world.advance(0.2)
    assert lines(effects) == ([] if phase is Phase.STOPPING else ["FF_STOP 1"])
    assert world.phase() is Phase.STOPPING


def test_a_session_that_is_back_in_time_changes_nothing() -> None:
    world = in_phase(Phase.ACTIVE)
    world.say(ev.LinkDown("connection closed", heard_mono_s=world.mono_s))
    world.advance(4.9)
    assert lines(world.say(ev.LinkUp("192.0.2.1", resumed=True))) == []
    assert lines(world.advance(5.0)) == []
    assert world.phase() is Phase.ACTIVE


@pytest.mark.parametrize("phase", list(Phase))
def test_a_coordinator_that_began_anew_has_no_measurements_here(phase: Phase) -> None:
    world = in_phase(phase)
    world.say(ev.LinkDown("connection closed", heard_mono_s=world.mono_s))
    effects = world.say(ev.LinkUp("192.0.2.1", resumed=False))
    assert lines(effects) == ([] if phase is Phase.STOPPING else ["FF_STOP 1"])
    assert sent(effects) == []


@pytest.mark.parametrize(
    ("phase", "code", "kind"),
    [
        (Phase.LAUNCHING, "LAUNCH_CIRCS", "peer"),
        (Phase.BUILDING, "LAUNCH_CIRCS", "peer"),
        (Phase.READY, "MEASUREMENT_FAILED", "peer"),
        (Phase.STARTING, "MEASUREMENT_FAILED", "peer"),
        (Phase.ACTIVE, "MEASUREMENT_FAILED", "peer"),
    ],
)
def test_an_end_with_a_reason_is_told_with_its_kind(phase: Phase, code: str, kind: str) -> None:
    world = in_phase(phase)
    effects = world.say(tor.MeasEnd(1, success=False, reason="RELAY_PROTOCOL"))
    assert failures(effects) == [(1, code, kind)]
    assert "broke the measurement protocol" in sent(effects)[0].reason
    assert world.meas() is None


@pytest.mark.parametrize("reason", ["ECHO_INVENTED", "ECHO_WRONG"])
@pytest.mark.parametrize("phase", [Phase.BUILDING, Phase.READY, Phase.ACTIVE])
def test_forged_cells_are_told_as_such(phase: Phase, reason: str) -> None:
    world = in_phase(phase)
    effects = world.say(tor.MeasEnd(1, success=False, reason=reason))
    assert failures(effects) == [(1, "ECHO_FORGED", "peer")]


def test_an_end_before_the_traffic_is_no_success() -> None:
    world = in_phase(Phase.READY)
    assert failures(world.say(tor.MeasEnd(1, success=True))) == [(1, "MEASUREMENT_FAILED", "local")]


def test_ends_and_reports_of_unknown_measurements_mean_nothing() -> None:
    world = World().up()
    assert world.say(tor.MeasEnd(7, success=True), tor.BwReport(7, 1, 1, 1)) == []


def test_a_report_that_overtakes_the_reply_counts() -> None:
    world = in_phase(Phase.STARTING)
    assert len(sent(world.say(tor.BwReport(1, 1, 5, 5)))) == 1


@pytest.mark.parametrize(
    "report",
    [
        tor.BwReport(1, 0, 5, 5),
        tor.BwReport(1, 11, 5, 5),
        tor.BwReport(1, 10**19, 5, 5),
        tor.BwReport(1, 1, 5, 10**19),
    ],
)
def test_an_absurd_report_fails_the_measurement(report: tor.BwReport) -> None:
    assert failures(in_phase(Phase.ACTIVE).say(report)) == [(1, "MALFORMED_TOR_RESP", "local")]


def test_a_refused_start_is_a_failure() -> None:
    world = in_phase(Phase.STARTING)
    effects = world.say(TorReplied(world.core.state.last_effect_id, ok=False, text="not ready"))
    assert failures(effects) == [(1, "M_START_ACTIVE_MEAS", "local")]


def test_a_failure_of_the_coordinator_stops_its_measurement() -> None:
    world = in_phase(Phase.READY)
    failure = wire.Failure(meas_id=1, code="SOME_NEW_CODE", kind=ErrorKind.LOCAL, reason="refused")
    assert lines(world.coordinator(failure)) == ["FF_STOP 1"]
    assert failures(world.effects) == []
    other = failure.model_copy(update={"meas_id": None})
    assert [type(effect) for effect in world.coordinator(other)] == [do.Log]


def test_messages_that_are_not_for_a_measurer_are_logged_only() -> None:
    effects = World().up().coordinator(wire.ConnectedToRelay(meas_id=1, n_circs=1))
    assert [type(effect) for effect in effects] == [do.Log]


def test_draining_takes_nothing_new_and_ends_with_the_last_measurement() -> None:
    world = World().up().active()
    assert only(world.say(ev.StopRequested()), do.StopService) == []
    assert failures(world.coordinator(order(2))) == [(2, "DRAINING", "local")]
    effects = world.say(tor.MeasEnd(1, success=True))
    assert len(only(effects, do.StopService)) == 1


def test_draining_with_nothing_to_do_ends_at_once_and_once() -> None:
    world = World().up()
    assert len(only(world.say(ev.StopRequested(), ev.StopRequested()), do.StopService)) == 1


def test_the_readiness_is_announced_when_the_tor_client_is_up() -> None:
    world = World()
    assert only(world.say(TorCameUp()), do.Announce) == [do.Announce()]


def test_failed_attempts_to_connect_are_logged() -> None:
    effects = World().say(ev.LinkFailed("coordinator 192.0.2.1:12934: connection refused", 2.0))
    assert [effect.text for effect in effects] == [
        "coordinator 192.0.2.1:12934: connection refused (trying again in 2 s)"
    ]
