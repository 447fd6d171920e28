"""A measurer's side of a measurement in torclient's core: events and the effects expected."""

import pytest

from flashflow.model.ids import Fingerprint, MeasId
from flashflow.model.network import NetworkLimits
from flashflow.torclient.core.events import ControlClosed, WorkerDied
from flashflow.torclient.core.measr import DEADLINES_S, START_DELAY_S, Phase
from flashflow.torclient.core.messages import (
    Begin,
    CircuitBuilt,
    CircuitEnded,
    CreateRepeated,
    Halt,
    OpenCircuits,
    SecondCounted,
    ShareEnded,
)
from flashflow.torclient.core.replacing import BUILT_WITHIN_S
from flashflow.torctl.commands import MeasrStart, Stop
from support.torclient_core import FAR_END, FP, CoreWorld, announced, logged, loop, measr, told


def second_call(n_circs=4, dur_s=3, fingerprint=FP):
    return MeasrStart(MeasId(7), fingerprint, n_circs, dur_s)


SECOND_CALL = second_call()


def built_world(n_circs=4):
    """Circuits 1.. built: those of odd index are worker 0's for run 1 on two workers."""
    world = CoreWorld()
    world.command(measr(n_circs=n_circs))
    world.says(CircuitBuilt(1, 1), worker=1)
    for circ_id in range(2, n_circs + 1):
        world.says(CircuitBuilt(1, circ_id), worker=circ_id % 2)
    return world


def active_world():
    world = built_world()
    world.command(SECOND_CALL)
    return world


def test_first_circuit_alone_then_the_others_over_all_workers():
    world = CoreWorld()
    answer, effects = world.command(measr())
    assert answer == (250, "FF_MEAS 7 LAUNCHED CIRCS=1,2,3,4")
    assert announced(effects) == [f"CIRC {circ_id} LAUNCHED" for circ_id in (1, 2, 3, 4)]
    [(worker, order)] = told(effects)
    assert (worker, order.circ_ids) == (1, (1,))
    assert isinstance(order, OpenCircuits)
    assert (order.host, order.port, order.fingerprint) == ("127.0.0.1", 9001, "AB" * 20)
    assert (order.token, order.bucket_cells) == (bytes(range(16)).hex(), 125)

    effects = world.says(CircuitBuilt(1, 1), worker=1)
    assert announced(effects) == ["CIRC 1 BUILT"]
    assert [(worker, order.circ_ids) for worker, order in told(effects)] == [(0, (2, 4)), (1, (3,))]


def test_second_call_starts_all_workers_at_one_moment_with_shares_of_the_rate():
    world = built_world()
    answer, effects = world.command(SECOND_CALL)
    assert answer == (250, "OK")
    begin = Begin(1, (2, 4), world.now_s + START_DELAY_S, 2, 3, 500_000.0)
    assert told(effects) == [(0, begin), (1, Begin(1, (1, 3), begin.start_mono_s, 2, 3, 500_000.0))]


def test_seconds_are_summed_over_the_workers_and_the_end_is_announced():
    world = active_world()
    lines = []
    for second in (1, 2, 3):
        assert world.says(SecondCounted(1, second, 10, 9), worker=0) == []
        lines += announced(world.says(SecondCounted(1, second, 1, 1), worker=1))
    assert lines == [f"FF_MEAS BW_REPORT 7 SECOND={second} SENT=11 RECV=10" for second in (1, 2, 3)]
    assert world.says(ShareEnded(1, None, ""), worker=0) == []
    effects = world.says(ShareEnded(1, None, ""), worker=1)
    assert announced(effects)[-1] == "FF_MEAS END 7 SUCCESS=1"
    assert world.core.next_timer() is None
    assert world.command(SECOND_CALL)[0][0] == 552


def test_wrong_echo_ends_everything_at_once():
    world = active_world()
    effects = world.says(ShareEnded(1, "ECHO_WRONG", "echo cell 5"), worker=1)
    assert told(effects) == [(0, Halt(1)), (1, Halt(1))]
    assert announced(effects)[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=ECHO_WRONG"
    assert logged(effects) == ["measurement 7: ECHO_WRONG: echo cell 5"]


def test_first_circuits_failure_is_the_measurements():
    world = CoreWorld()
    world.command(measr())
    effects = world.says(CircuitEnded(1, 1, "CERTS_INVALID", "relay 127.0.0.1 ..."), worker=1)
    assert announced(effects)[0] == "CIRC 1 FAILED REASON=CERTS_INVALID"
    assert announced(effects)[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=CERTS_INVALID"


@pytest.mark.parametrize("built", [0, 1, 4])
def test_relay_that_cheats_before_the_traffic_begins(built):
    """While a circuit is built, while the others are, and when all are ready."""
    world = CoreWorld()
    world.command(measr())
    for circ_id in range(1, built + 1):
        world.says(CircuitBuilt(1, circ_id), worker=circ_id % 2)
    effects = world.says(ShareEnded(1, "ECHO_INVENTED", "20 cells came back"), worker=1)
    assert announced(effects)[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=ECHO_INVENTED"
    assert Halt(1) in [message for _, message in told(effects)]
    assert world.core.next_timer() is None


def test_circuits_are_there_before_measurer_and_coordinator_give_up():
    assert DEADLINES_S[Phase.PROBING] + DEADLINES_S[Phase.BUILDING] < 9


@pytest.mark.parametrize(("failed", "enough"), [((2, 3), True), ((2, 3, 4), False)])
def test_half_of_the_circuits_is_enough(failed, enough):
    world = CoreWorld()
    world.command(measr())
    world.says(CircuitBuilt(1, 1), worker=1)
    for circ_id in (2, 3, 4):
        message = (
            CircuitEnded(1, circ_id, "LINK_FAILED", "") if circ_id in failed else CircuitBuilt(1, circ_id)
        )
        effects = world.says(message, worker=circ_id % 2)
    if enough:
        assert world.command(SECOND_CALL)[0] == (250, "OK")
    else:
        assert announced(effects)[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=TOO_FEW_CIRCUITS"


def test_circuits_not_built_in_time_are_given_up_and_not_used():
    world = CoreWorld()
    world.command(measr())
    world.says(CircuitBuilt(1, 1), worker=1)
    world.says(CircuitBuilt(1, 2), worker=0)
    assert announced(world.pass_time()) == ["CIRC 3 FAILED REASON=TIMEOUT", "CIRC 4 FAILED REASON=TIMEOUT"]
    assert world.says(CircuitBuilt(1, 3), worker=1) == []  # it came just now
    _, effects = world.command(SECOND_CALL)
    assert [begin.circ_ids for _, begin in told(effects)] == [(2,), (1,)]


def test_too_few_built_in_time():
    world = CoreWorld()
    world.command(measr())
    world.says(CircuitBuilt(1, 1), worker=1)
    assert announced(world.pass_time())[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=TOO_FEW_CIRCUITS"


def test_deadlines_of_the_other_phases():
    world = CoreWorld()
    world.command(measr())
    assert world.core.next_timer() == world.now_s + DEADLINES_S[Phase.PROBING]
    assert announced(world.pass_time())[-1].endswith("REASON=TIMEOUT")
    world = built_world()
    assert world.core.next_timer() == world.now_s + DEADLINES_S[Phase.READY]
    assert announced(world.pass_time())[-1].endswith("REASON=TIMEOUT")


def test_traffic_never_outlasts_duration_warm_up_and_five_seconds():
    world = active_world()
    assert world.core.next_timer() == world.now_s + 3 + 2 + 5
    effects = world.pass_time()
    assert told(effects) == [(0, Halt(1)), (1, Halt(1))]
    assert announced(effects)[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=TIMEOUT"


def test_relay_that_closes_circuits_early():
    world = active_world()
    for circ_id in (1, 2):
        effects = world.says(CircuitEnded(1, circ_id, "RELAY_CLOSED", ""), worker=circ_id % 2)
        assert announced(effects) == [f"CIRC {circ_id} CLOSED REASON=RELAY_CLOSED"]
    effects = world.says(CircuitEnded(1, 3, "RELAY_CLOSED", ""), worker=1)
    assert announced(effects)[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=RELAY_CLOSED"


def test_duplicates_are_refused():
    world = active_world()
    assert world.command(measr())[0] == (550, "measurement 7 is under way already")
    assert world.command(SECOND_CALL)[0] == (550, "measurement 7 is ACTIVE, not READY")
    assert world.command(measr(meas_id=8))[0][0] == 250


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (second_call(dur_s=4), "dur: 4, but measurement 7 began with 3"),
        (second_call(n_circs=5), "n_circs: 5, but measurement 7 began with 4"),
        (
            second_call(fingerprint=Fingerprint("CD" * 20)),
            f"fingerprint: {'CD' * 20}, but measurement 7 began with {FP}",
        ),
    ],
)
def test_second_call_that_does_not_go_with_the_first(call, reason):
    world = built_world()
    assert world.command(call) == ((513, reason), [])
    assert world.command(SECOND_CALL)[0] == (250, "OK")  # nothing was spoilt


def test_second_call_too_early_or_for_nothing():
    world = CoreWorld()
    assert world.command(SECOND_CALL)[0][0] == 552
    world.command(measr())
    assert world.command(SECOND_CALL)[0] == (550, "measurement 7 is PROBING, not READY")


def test_stop():
    world = active_world()
    answer, effects = world.command(Stop(MeasId(7)))
    assert answer == (250, "OK")
    assert told(effects) == [(0, Halt(1)), (1, Halt(1))]
    assert announced(effects)[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=STOPPED"
    assert world.command(Stop(MeasId(7)))[0] == (552, "Unrecognized measurement 7")


def test_control_connection_that_closes_stops_what_it_began():
    world = active_world()
    world.command(measr(meas_id=8), conn=2)
    effects = world.do(ControlClosed(2))
    assert [message for _, message in told(effects)] == [Halt(2)]
    effects = world.do(ControlClosed(1))
    assert told(effects) == [(0, Halt(1)), (1, Halt(1))]
    assert world.do(ControlClosed(1)) == []


def test_worker_that_dies_ends_its_measurements():
    world = active_world()
    effects = world.do(WorkerDied(1))
    assert told(effects) == [(0, Halt(1))]
    assert announced(effects)[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=WORKER_LOST"
    assert logged(effects) == ["worker 1 died"]


def test_messages_that_crossed_the_halt_are_ignored():
    world = active_world()
    world.command(Stop(MeasId(7)))
    assert world.says(SecondCounted(1, 1, 5, 5), worker=0) == []
    assert world.command(measr())[0][0] == 250  # the id may be used again
    assert world.says(SecondCounted(1, 2, 5, 5), worker=0) == []
    assert world.says(CircuitEnded(1, 2, "RELAY_CLOSED", ""), worker=0) == []


def test_loop_circuits_are_told_their_far_ends_and_no_token():
    world = CoreWorld()
    _, effects = world.command(loop())
    [(_, order)] = told(effects)
    assert (order.token, order.far_ends) == ("", (str(FAR_END),))


def test_loop_rate_and_reports_are_what_the_relay_reads():
    world = CoreWorld(workers=1)
    world.command(loop(n_circs=1))
    world.says(CircuitBuilt(1, 1))
    _, effects = world.command(second_call(1))
    [(_, begin)] = told(effects)
    assert begin.rate_bytes == 500_000.0
    effects = world.says(SecondCounted(1, 1, 5140, 514))
    assert announced(effects) == ["FF_MEAS BW_REPORT 7 SECOND=1 SENT=10280 RECV=1028"]


def opened(effects):
    return [circ_id for _, order in told(effects) for circ_id in order.circ_ids]


def test_loop_circuits_are_opened_no_faster_than_the_network_allows():
    world = CoreWorld(workers=1)
    _, effects = world.command(loop(n_circs=24))
    assert opened(effects) == [1]
    assert opened(world.says(CircuitBuilt(1, 1))) == list(range(2, 21))  # 20 in a burst
    begun_s = world.now_s
    for circ_id in range(21, 25):
        assert opened(world.pass_time()) == [circ_id]
    assert world.now_s - begun_s == pytest.approx(0.4)
    for circ_id in range(2, 25):
        world.says(CircuitBuilt(1, circ_id))
    assert world.command(SECOND_CALL)[0] == (250, "OK")


def test_a_loop_circuit_that_was_asked_for_twice_comes_out_of_the_budget_twice():
    world = CoreWorld(workers=1)
    world.command(loop(n_circs=6, limits=NetworkLimits(circuits_burst=5, circuits_per_s=1.0)))
    assert world.says(CreateRepeated(1, 1)) == []
    assert opened(world.says(CircuitBuilt(1, 1))) == [2, 3, 4]
    assert world.says(CreateRepeated(1, 2)) == []
    begun_s = world.now_s
    assert opened(world.pass_time()) == [5]
    assert world.now_s == begun_s + 2.0
    assert opened(world.pass_time()) == [6]
    assert world.now_s == begun_s + 3.0


def test_an_echo_circuit_may_be_asked_for_twice():
    world = CoreWorld()
    world.command(measr())
    assert world.says(CreateRepeated(1, 1), worker=1) == []
    assert opened(world.says(CircuitBuilt(1, 1), worker=1)) == [2, 4, 3]


def test_the_next_loop_measurement_of_a_relay_waits_for_what_the_first_one_used_up():
    world = CoreWorld(workers=1)
    world.command(loop(n_circs=20))
    world.says(CircuitBuilt(1, 1))
    world.command(Stop(MeasId(7)))
    _, effects = world.command(loop(n_circs=20))
    assert opened(effects) == []
    assert opened(world.pass_time()) == [21]
    echo = world.command(measr(meas_id=8, n_circs=20))[1]
    assert opened(echo) == [41]  # a relay that takes part has no reason to defend itself


def test_loop_circuits_to_one_relay_are_40_at_most():
    world = CoreWorld(workers=1)
    assert world.command(loop(meas_id=1, n_circs=20))[0][0] == 250
    assert world.command(loop(meas_id=2, n_circs=20))[0][0] == 250
    code, text = world.command(loop(meas_id=3, n_circs=1))[0]
    assert (code, text) == (550, "40 circuits lead to this relay already, 40 in all may")
    world.command(Stop(MeasId(1)))
    assert world.command(loop(meas_id=3, n_circs=1))[0][0] == 250


def test_circuits_that_were_not_opened_in_time_are_not_opened_later():
    world = CoreWorld(workers=1)
    world.command(loop(n_circs=40))
    world.says(CircuitBuilt(1, 1))
    for circ_id in range(2, 21):
        world.says(CircuitBuilt(1, circ_id))
    deadline_s = world.now_s + DEADLINES_S[Phase.BUILDING]
    while world.now_s < deadline_s:
        effects = world.pass_time()
    assert "CIRC 40 FAILED REASON=TIMEOUT" in announced(effects)
    assert world.core.next_timer() == deadline_s + DEADLINES_S[Phase.READY]


def test_the_networks_limits_bind():
    limits = NetworkLimits(6, 3, 2.0, 30, 2.0, 300)
    world = CoreWorld(workers=1)
    assert world.command(loop(n_circs=7, limits=limits))[0] == (
        550,
        "0 circuits lead to this relay already, 6 in all may",
    )
    world.command(loop(n_circs=6, limits=limits))
    assert opened(world.says(CircuitBuilt(1, 1))) == [2, 3]
    assert opened(world.pass_time()) == [4]
    assert world.now_s == 1000.5
    for _ in range(2):
        world.pass_time()
    for circ_id in range(2, 7):
        world.says(CircuitBuilt(1, circ_id))
    [(_, begin)] = told(world.command(second_call(6))[1])
    assert begin.circuit_cells == 300


def test_once_the_relay_refuses_a_circuit_no_more_are_asked_for():
    world = CoreWorld(workers=1)
    world.command(loop(n_circs=24))
    world.says(CircuitBuilt(1, 1))
    for circ_id in range(2, 20):
        world.says(CircuitBuilt(1, circ_id))
    effects = world.says(CircuitEnded(1, 20, "CIRCUIT_REFUSED", "DESTROY 5"))
    refused = [f"CIRC {circ_id} FAILED REASON=CIRCUIT_REFUSED" for circ_id in (20, 21, 22, 23, 24)]
    assert announced(effects) == refused
    assert world.core.next_timer() == world.now_s + DEADLINES_S[Phase.READY]
    assert world.command(second_call(19))[0] == (250, "OK")


def active_loop(n_circs=4, **extras):
    """Circuits 1.. of a loop measurement carry traffic, those of odd index in worker 1."""
    world = CoreWorld()
    world.command(loop(n_circs=n_circs, dur_s=30, **extras))
    world.says(CircuitBuilt(1, 1), worker=1)
    while not all(world.core._runs[1].circuits.values()):
        for circ_id, built in list(world.core._runs[1].circuits.items()):
            if not built and circ_id not in world.core._runs[1]._waiting:
                world.says(CircuitBuilt(1, circ_id), worker=circ_id % 2)
        if world.core._runs[1]._waiting:
            world.pass_time()
    assert world.command(second_call(n_circs, 30))[0] == (250, "OK")
    return world


LOST = ["RELAY_CLOSED", "DESTROY_CHANNEL_CLOSED", "DESTROY_INTERNAL", "DESTROY_PROTOCOL"]


@pytest.mark.parametrize("reason", LOST)
def test_a_loop_circuit_that_is_lost_is_replaced_in_the_same_worker(reason):
    world = active_loop()
    effects = world.says(CircuitEnded(1, 2, reason, "DESTROY 8"), worker=0)
    assert announced(effects) == [f"CIRC 2 CLOSED REASON={reason}", "CIRC 5 LAUNCHED"]
    [(worker, order)] = told(effects)
    assert (worker, order.circ_ids, order.far_ends) == (0, (5,), (str(FAR_END),))
    assert announced(world.says(CircuitBuilt(1, 5), worker=0)) == ["CIRC 5 BUILT"]
    assert world.core.next_timer() == world.now_s + 2 + 30 + DEADLINES_S[Phase.ACTIVE]
    for second in range(1, 31):
        for worker in (0, 1):
            effects = world.says(SecondCounted(1, second, 514, 514), worker=worker)
        assert announced(effects) == [f"FF_MEAS BW_REPORT 7 SECOND={second} SENT=2056 RECV=2056"]
    world.says(ShareEnded(1, None, ""), worker=0)
    effects = world.says(ShareEnded(1, None, ""), worker=1)
    assert announced(effects)[-1] == "FF_MEAS END 7 SUCCESS=1"


def test_all_circuits_may_be_lost_at_once_but_no_more_than_once():
    world = active_loop()
    for circ_id in (1, 2, 3, 4):
        effects = world.says(CircuitEnded(1, circ_id, "DESTROY_CHANNEL_CLOSED", ""), worker=circ_id % 2)
        assert opened(effects) == [circ_id + 4]
    for circ_id in (5, 6, 7, 8):
        world.says(CircuitBuilt(1, circ_id), worker=circ_id % 2)
    effects = world.says(CircuitEnded(1, 6, "DESTROY_CHANNEL_CLOSED", ""), worker=0)
    assert logged(effects)[-1] == "measurement 7: circuit 6 is not replaced"
    assert announced(effects)[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=RELAY_CLOSED"
    assert told(effects) == [(0, Halt(1)), (1, Halt(1))]


@pytest.mark.parametrize("reason", ["DESTROY_RESOURCELIMIT", "DESTROY_HIBERNATING", "RELAY_PROTOCOL"])
def test_what_the_relay_refuses_is_not_asked_for_again(reason):
    world = active_loop()
    effects = world.says(CircuitEnded(1, 2, reason, ""), worker=0)
    assert announced(effects)[-1] == f"FF_MEAS END 7 SUCCESS=0 REASON={reason}"
    assert not any(isinstance(message, OpenCircuits) for _, message in told(effects))


@pytest.mark.parametrize("lost", ["DESTROY_INTERNAL", "DESTROY_CHANNEL_CLOSED"])
@pytest.mark.parametrize("reason", ["LINK_FAILED", "EXTEND_REFUSED", "TIMEOUT"])
def test_a_replacement_that_the_network_may_have_prevented_ends_it_with_the_reason_of_the_loss(lost, reason):
    world = active_loop()
    world.says(CircuitEnded(1, 2, lost, ""), worker=0)
    effects = world.says(CircuitEnded(1, 5, reason, ""), worker=0)
    assert announced(effects)[:1] == [f"CIRC 5 FAILED REASON={reason}"]
    assert announced(effects)[-1] == f"FF_MEAS END 7 SUCCESS=0 REASON={lost}"


@pytest.mark.parametrize("reason", ["CIRCUIT_REFUSED", "FAR_END_INVALID", "RELAY_CLOSED"])
def test_a_replacement_that_the_relay_prevents_ends_it(reason):
    world = active_loop()
    world.says(CircuitEnded(1, 2, "DESTROY_CHANNEL_CLOSED", ""), worker=0)
    effects = world.says(CircuitEnded(1, 5, reason, ""), worker=0)
    assert announced(effects)[:1] == [f"CIRC 5 FAILED REASON={reason}"]
    assert announced(effects)[-1] == f"FF_MEAS END 7 SUCCESS=0 REASON={reason}"


def test_a_replacement_that_is_not_built_in_time_ends_it_with_the_reason_of_the_loss():
    world = active_loop()
    world.says(CircuitEnded(1, 2, "DESTROY_INTERNAL", ""), worker=0)
    effects = world.pass_time()
    assert world.now_s == 1000.0 + BUILT_WITHIN_S
    assert announced(effects)[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=DESTROY_INTERNAL"


def test_replacements_come_out_of_the_same_budget():
    world = active_loop(limits=NetworkLimits(connections_burst=5, connections_per_s=1.0))
    assert opened(world.says(CircuitEnded(1, 2, "RELAY_CLOSED", ""), worker=0)) == [5]
    assert opened(world.says(CircuitEnded(1, 3, "RELAY_CLOSED", ""), worker=1)) == []
    begun_s = world.now_s
    assert opened(world.pass_time()) == [6]
    assert world.now_s == begun_s + 1.0
