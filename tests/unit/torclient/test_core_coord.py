"""The coordinator's side of a measurement in torclient's core."""

import pytest

from flashflow.model.ids import MeasId
from flashflow.orlink.meas import MeasParams, parse_measurement
from flashflow.torclient.core.messages import (
    BackgroundCounted,
    CircuitBuilt,
    CircuitEnded,
    Halt,
    ParamsAnswered,
    ParamsWereSent,
)
from flashflow.torctl.commands import CoordStart, Stop
from support.torclient_core import CoreWorld, announced, coord, measr, told

SECOND_CALL = CoordStart(MeasId(7), coord().fingerprint, 5)


def params_world():
    world = CoreWorld()
    world.command(coord())
    world.says(CircuitBuilt(1, 1))
    world.says(ParamsWereSent(1))
    return world


def active_world():
    world = params_world()
    world.says(ParamsAnswered(1, None))
    world.command(SECOND_CALL)
    return world


def test_from_launch_to_acceptance():
    world = CoreWorld()
    answer, effects = world.command(coord())
    assert answer == (250, "LAUNCHED 1")
    [(_, order)] = told(effects)
    params = parse_measurement(bytes.fromhex(order.params))
    assert isinstance(params, MeasParams)
    assert (params.meas_id, params.duration_s) == (7, 5)
    assert [(one.token, one.sockets, one.address) for one in params.measurers] == [
        (bytes(range(16)), 4, ("::1", 0))
    ]
    assert announced(world.says(CircuitBuilt(1, 1))) == ["CIRC 1 BUILT"]
    assert announced(world.says(ParamsWereSent(1))) == ["FF_MEAS PARAMS_SENT 7"]
    assert announced(world.says(ParamsAnswered(1, None))) == ["FF_MEAS PARAMS_OK 7 ACCEPTED=1"]
    assert world.command(SECOND_CALL)[0] == (250, "OK")


def test_refusal():
    effects = params_world().says(ParamsAnswered(1, "REFUSED_TOO_MANY"))
    lines = announced(effects)
    assert lines[0] == "FF_MEAS PARAMS_OK 7 ACCEPTED=0 REASON=REFUSED_TOO_MANY"
    assert lines[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=REFUSED_TOO_MANY"
    assert [message for _, message in told(effects)] == [Halt(1)]


def test_no_answer_means_no_support():
    world = params_world()
    assert world.core.next_timer() == world.now_s + 5
    assert announced(world.pass_time())[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=NOT_SUPPORTED"


def test_background_reports_as_the_relay_numbers_them():
    world = active_world()
    lines = []
    for second in (1, 2, 4, 5):
        lines += announced(world.says(BackgroundCounted(1, second, 100, 50)))
    assert lines[0] == "FF_MEAS BW_REPORT 7 SECOND=1 SENT=100 RECV=50"
    assert lines[3:] == [
        "FF_MEAS BW_REPORT 7 SECOND=5 SENT=100 RECV=50",
        "CIRC 1 CLOSED REASON=FINISHED",
        "FF_MEAS END 7 SUCCESS=1",
    ]


@pytest.mark.parametrize(("seconds", "success"), [(3, False), (4, True)])
def test_relay_that_closes(seconds, success):
    world = active_world()
    for second in range(1, seconds + 1):
        world.says(BackgroundCounted(1, second, 0, 0))
    end = announced(world.says(CircuitEnded(1, 1, "RELAY_CLOSED", "")))[-1]
    assert end == f"FF_MEAS END 7 SUCCESS={int(success)}" + ("" if success else " REASON=RELAY_CLOSED")


@pytest.mark.parametrize("message", [BackgroundCounted(1, 1, 0, 0), ParamsWereSent(1)])
def test_relay_that_speaks_out_of_turn(message):
    world = params_world()
    world.says(ParamsAnswered(1, None))
    assert announced(world.says(message))[-1] == "FF_MEAS END 7 SUCCESS=0 REASON=RELAY_PROTOCOL"


def test_relay_that_says_yes_twice():
    world = active_world()
    assert announced(world.says(ParamsAnswered(1, None)))[-1].endswith("REASON=RELAY_PROTOCOL")


def test_relay_that_gives_up_in_the_middle():
    world = active_world()
    end = announced(world.says(ParamsAnswered(1, "REFUSED_OTHER")))[-1]
    assert end == "FF_MEAS END 7 SUCCESS=0 REASON=REFUSED_OTHER"


def test_deadlines():
    world = CoreWorld()
    world.command(coord())
    assert announced(world.pass_time())[-1].endswith("REASON=TIMEOUT")
    world = active_world()
    assert world.core.next_timer() == world.now_s + 5 + 5
    assert announced(world.pass_time())[-1].endswith("REASON=TIMEOUT")


def test_second_call_before_acceptance_and_duplicates():
    world = params_world()
    assert world.command(SECOND_CALL)[0] == (550, "measurement 7 is PARAMS, not ACCEPTED")
    assert world.command(coord())[0] == (550, "measurement 7 is under way already")


def test_one_process_can_play_both_parts_of_a_measurement():
    world = CoreWorld()
    assert world.command(coord())[0][0] == 250
    assert world.command(measr())[0][0] == 250
    _, effects = world.command(Stop(MeasId(7)))
    assert announced(effects).count("FF_MEAS END 7 SUCCESS=0 REASON=STOPPED") == 2
