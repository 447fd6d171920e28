"""Loop mode: no coordinator's circuit, no background, and the Tor client does not matter."""

import pytest

from coordinator.core import effects as do
from coordinator.core import events as ev
from flashflow.model.circuits import LOOP_CIRCUITS_MEASURER
from flashflow.torctl.client import SendTorCommand, TorCameUp, TorWasLost
from flashflow.wire import messages as wire
from support.coordinator_world import World, relay

LOOP = f"allow {relay(1).fingerprint} mode=loop\nallow *\n"


@pytest.fixture
def world() -> World:
    world = World()
    world.start(filter_text=LOOP)
    return world


def connect(world: World) -> None:
    for name, share in list(world.meas.shares.items()):
        message = wire.ConnectedToRelay(meas_id=world.meas.meas_id, n_circs=share.n_circs)
        world.say(ev.MeasurerSaid(name, message))


def report_all(world: World, recv: int) -> None:
    world.sleep(2.0)
    for second in range(1, 6):
        world.sleep(1.0)
        for name in list(world.meas.shares):
            world.report(name, second, recv)


def test_whole_measurement(world: World) -> None:
    world.ctrl("measure relay1 wait")
    asked = [e.message for e in world.of(do.SendToMeasurer)]
    assert [(m.type, m.mode) for m in asked] == [("ConnectToRelay", "loop")] * 2
    assert all(1 <= m.n_circs <= LOOP_CIRCUITS_MEASURER for m in asked)
    connect(world)
    assert [e.message.type for e in world.of(do.SendToMeasurer)][2:] == ["Go", "Go"]
    report_all(world, 1_000_000)
    done = world.store()
    assert (done["outcome"], done["mode"], done["background"]) == ("ok", "loop", "unknown")
    assert done["result_bytes"] == 2_000_000
    assert world.of(SendTorCommand) == []
    assert [e["total_bytes"] for e in world.events_to(1, "second")] == [2_000_000] * 5


def test_it_needs_no_tor_client_and_survives_its_loss(world: World) -> None:
    world.say(TorWasLost("gone"))
    assert world.ctrl("measure relay2")["kind"] == "ERR"
    world.ctrl("measure relay1 wait")
    connect(world)
    world.say(TorCameUp())
    world.say(TorWasLost("gone again"))
    report_all(world, 5)
    assert world.store()["outcome"] == "ok"


def test_a_measurer_that_does_not_connect_fails_it(world: World) -> None:
    world.ctrl("measure relay1 wait")
    world.sleep(16)
    assert world.store()["failure"] == {
        "kind": "network",
        "reason": "a measurer did not connect to the relay in time",
    }


def test_cancel_stops_the_measurers_only(world: World) -> None:
    meas_id = world.ctrl("measure relay1 wait")["meas_id"]
    connect(world)
    world.ctrl(f"cancel {meas_id}")
    assert [e.message.type for e in world.of(do.SendToMeasurer)][-2:] == ["Stop", "Stop"]
    assert world.of(SendTorCommand) == []


def test_the_slot_timer_measures_it_without_a_tor_client(world: World) -> None:
    world.say(TorWasLost("gone"))
    world.sleep(31)
    assert world.meas.mode == "loop"
