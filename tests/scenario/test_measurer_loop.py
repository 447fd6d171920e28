"""Loop measurements in the measurer's core: a far end for each, which never outlives it."""

from collections.abc import Callable

import pytest

from coordinator.core import measurement as coordinator
from coordinator.core.params import Params
from flashflow.model.network import NetworkLimits
from flashflow.torctl import events as tor
from flashflow.torctl.client import TorWasLost
from flashflow.torctl.commands import MeasrStart, parse_command
from flashflow.wire import messages as wire
from measurer.core import effects as do
from measurer.core import events as ev
from measurer.core.measurement import DEADLINES_S, SETUP_S, Phase
from support.measurer_world import FAR_ENDS, World, failures, in_phase, lines, only, sent
from support.wire_pair import TOKEN, order

RUNNING = [phase for phase in Phase if phase is not Phase.STOPPING]


def started(effects: list[object]) -> list[do.StartFarEnd]:
    return only(effects, do.StartFarEnd)


def stopped(effects: list[object]) -> list[int]:
    return [effect.effect_id for effect in only(effects, do.StopFarEnd)]


def test_a_measurement_from_start_to_end() -> None:
    world = World().up()
    effects = world.coordinator(order(mode="loop", relay_addr="[2001:db8::7]:9001"))
    assert lines(effects) == []
    [far_end] = started(effects)
    assert (far_end.relay, far_end.relay_host) == ("AB" * 20, "2001:db8::7")
    effects = world.far_end_ready(effects)
    [line] = lines(effects)
    command = parse_command(line)
    assert isinstance(command, MeasrStart)
    assert (command.far_ends, command.token) == (FAR_ENDS, None)
    assert line.startswith(f"MEASR_START_MEAS 1 {'AB' * 20} 4 10 RATE=1000000 WARMUP=2 MODE=loop BUCKET=125 ")
    assert "ADDR=[2001:db8::7]:9001 " in line
    assert "TOKEN" not in line
    assert TOKEN not in line
    keys = f"{'CD' * 20}/{'ZWVl' * 10}ZWU/{'/' * 42}8"
    assert line.split()[-2:] == [f"FAREND=192.0.2.1:4000/{keys}", f"FAREND=192.0.2.1:4001/{keys}"]
    world.reply(effects, "FF_MEAS 1 LAUNCHED CIRCS=1,2,3,4")
    assert sent(world.built(1, 2, 3, 4)) == [wire.ConnectedToRelay(meas_id=1, n_circs=4)]
    effects = world.coordinator(wire.Go(meas_id=1))
    assert lines(effects) == [f"MEASR_START_MEAS 1 {'AB' * 20} 4 10"]
    world.reply(effects)
    assert len(sent(world.say(tor.BwReport(1, 1, 100, 100)))) == 1
    effects = world.say(tor.MeasEnd(1, success=True))
    assert stopped(effects) == [far_end.effect_id]
    assert world.meas() is None
    assert failures(world.effects) == []


def test_echo_mode_has_no_far_end() -> None:
    world = in_phase(Phase.ACTIVE)
    world.say(tor.MeasEnd(1, success=True))
    assert started(world.effects) == stopped(world.effects) == []


ENDINGS: dict[str, Callable[[World], object]] = {
    "stopped by the coordinator": lambda world: world.coordinator(wire.Stop(meas_id=1, reason="cancelled")),
    "the coordinator's failure": lambda world: world.coordinator(
        wire.Failure(meas_id=1, code="X", kind="local", reason="refused")
    ),
    "the Tor client's end": lambda world: world.say(tor.MeasEnd(1, success=False, reason="ECHO_WRONG")),
    "the Tor client is lost": lambda world: world.say(TorWasLost("it ended")),
    "a new session": lambda world: world.say(ev.LinkUp("192.0.2.1", resumed=False)),
    "no session": lambda world: (
        world.say(ev.LinkDown("cut", heard_mono_s=world.mono_s)),
        world.advance(5.1),
    ),
    "deadline": lambda world: world.advance(60.0),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("phase", RUNNING)
def test_the_far_end_is_stopped_once_with_its_measurement(phase: Phase, ending: str) -> None:
    world = in_phase(phase, "loop")
    [far_end] = started(world.effects)
    assert stopped(world.effects) == []
    ENDINGS[ending](world)
    assert stopped(world.effects) == [far_end.effect_id]
    world.advance(60.0)
    assert stopped(world.effects) == [far_end.effect_id]
    assert world.meas() is None


@pytest.mark.parametrize("phase", RUNNING)
def test_a_far_end_that_ends_by_itself_fails_the_measurement(phase: Phase) -> None:
    world = in_phase(phase, "loop")
    [far_end] = started(world.effects)
    effects = world.say(ev.FarEndEnded(far_end.effect_id, "the far end ended with status 1: no port"))
    code = "LAUNCH_CIRCS" if phase is Phase.PREPARING else "MEASUREMENT_FAILED"
    assert failures(effects) == [(1, code, "local")]
    assert sent(effects)[0].reason == "the far end ended with status 1: no port"
    assert lines(effects) == ["FF_STOP 1"]
    assert stopped(world.effects) == []
    assert world.say(ev.FarEndEnded(far_end.effect_id, "again")) == []


def test_a_far_end_that_is_late_means_nothing_any_more() -> None:
    world = in_phase(Phase.PREPARING)
    effects = list(world.effects)
    assert failures(world.advance(DEADLINES_S[Phase.PREPARING])) == [(1, "LAUNCH_CIRCS", "local")]
    assert world.far_end_ready(effects) == []
    assert world.say(ev.FarEndReady(999, FAR_ENDS)) == []


def test_a_far_end_is_ready_once() -> None:
    world = in_phase(Phase.BUILDING, "loop")
    assert world.far_end_ready(list(world.effects)) == []


def test_set_up_is_over_in_time_for_the_coordinator_however_long_each_part_took() -> None:
    world = World().up()
    effects = world.coordinator(order(mode="loop"))
    assert failures(world.advance(9.0)) == []  # a machine so busy that the far end takes its time
    effects = world.far_end_ready(effects)
    world.advance(2.0)
    world.reply(effects, "FF_MEAS 1 LAUNCHED CIRCS=1,2,3,4")
    world.built(1, 2)
    assert sent(world.advance(2.9)) == []
    assert sent(world.advance(0.2)) == [wire.ConnectedToRelay(meas_id=1, n_circs=2)]


def test_its_deadlines_end_before_the_coordinators() -> None:
    assert (
        DEADLINES_S[Phase.PREPARING] < SETUP_S < coordinator.DEADLINES[coordinator.Phase.CONNECTING](Params())
    )


def test_the_networks_limits_reach_the_tor_client() -> None:
    world = World().up()
    limits = {"connections": 9, "connections_per_s": 2.5, "circuit_cells": 400}
    effects = world.coordinator(order(mode="loop", limits=limits))
    [line] = lines(world.far_end_ready(effects))
    asked = parse_command(line)
    assert isinstance(asked, MeasrStart)
    assert asked.limits == NetworkLimits(connections=9, connections_per_s=2.5, circuit_cells=400)


def test_each_measurement_has_a_far_end_of_its_own() -> None:
    world = World().up()
    [one] = started(world.coordinator(order(1, mode="loop")))
    [two] = started(world.coordinator(order(2, mode="loop", fp="EF" * 20)))
    assert one.effect_id != two.effect_id
    assert (one.relay, two.relay) == ("AB" * 20, "EF" * 20)
    assert stopped(world.coordinator(wire.Stop(meas_id=2, reason="enough"))) == [two.effect_id]
    assert world.phase(1) is Phase.PREPARING


def test_a_measurer_without_identities_does_no_loops() -> None:
    world = World(loops=False).up()
    assert failures(world.coordinator(order(mode="loop"))) == [(1, "MODE_NOT_SUPPORTED", "local")]
    assert started(world.effects) == []
    assert len(lines(world.coordinator(order(2)))) == 1


def test_its_own_limits_bind_in_loop_mode_too() -> None:
    world = World().up()
    assert failures(world.coordinator(order(mode="loop", relay_addr="127.0.0.1:9001"))) == [
        (1, "TARGET_NOT_ALLOWED", "local")
    ]
    assert started(world.effects) == []
