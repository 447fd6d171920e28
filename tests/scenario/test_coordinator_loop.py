"""Loop mode: no coordinator's circuit, no background, and the Tor client does not matter."""

import pytest

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.params import Params
from flashflow.directory.filter import RelayFilter
from flashflow.model.circuits import LOOP_CIRCUITS_MEASURER
from flashflow.model.network import ConsensusHeader
from flashflow.torctl import events as tor
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


def asked_limits(world: World) -> list[wire.LoopLimits]:
    return [e.message.limits for e in world.of(do.SendToMeasurer) if e.message.type == "ConnectToRelay"]


def test_measurers_at_one_address_share_what_the_live_network_allows(world: World) -> None:
    world.ctrl("measure relay1 wait")
    shared = wire.LoopLimits(
        connections=20, connections_burst=10, connections_per_s=5.0, circuits_burst=15, circuits_per_s=1.0
    )
    assert asked_limits(world) == [shared, shared]


def test_the_newest_consensus_sets_the_limits(world: World) -> None:
    world.say(ev.MeasurerJoined("m2", 62_500_000, "127.0.0.2"))
    for count in (50, 16):
        header = ConsensusHeader(params={"DoSConnectionMaxConcurrentCount": count})
        world.say(ev.RelaysLoaded(world.relays, RelayFilter.parse(LOOP, "filter"), header))
    world.ctrl("measure relay1 wait")
    assert asked_limits(world) == [wire.LoopLimits(connections=6)] * 2
    assert [share.n_circs for share in world.meas.shares.values()] == [6, 6]


def test_echo_mode_has_none(world: World) -> None:
    world.ctrl("measure relay2 wait")
    world.reply("LAUNCHED 7")
    world.say(tor.ParamsOk(world.meas.meas_id, True, None))
    assert asked_limits(world) == [None, None]


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
        "fault": "measurer",
        "reason": "a measurer did not connect to the relay in time",
        "forged": False,
    }


def test_cancel_stops_the_measurers_only(world: World) -> None:
    meas_id = world.ctrl("measure relay1 wait")["meas_id"]
    connect(world)
    world.ctrl(f"cancel {meas_id}")
    assert [e.message.type for e in world.of(do.SendToMeasurer)][-2:] == ["Stop", "Stop"]
    assert world.of(SendTorCommand) == []


def test_the_slot_timer_measures_it_without_a_tor_client() -> None:
    world = World(Params(duration_s=5, warmup_s=2, slot_s=60, strategy="fastest"))
    world.start(filter_text=LOOP)
    world.say(TorWasLost("gone"))
    world.sleep(31)
    assert world.meas.mode == "loop"
