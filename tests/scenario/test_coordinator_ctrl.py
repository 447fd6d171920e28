"""What controllers may say, right and wrong."""

import pytest

from coordinator.core import effects as do
from coordinator.core import events as ev
from flashflow.model.ids import MeasId
from support.coordinator_world import World, relay


@pytest.fixture
def world() -> World:
    world = World()
    world.start()
    return world


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("", "empty command"),
        ("   ", "empty command"),
        ("dance", "unknown command 'dance'"),
        ("measure", "measure needs a relay"),
        ("measure relay1 wait now", "measure needs a relay"),
        ("measure nobody", "no such relay"),
        ("measure " + "F" * 40, "no such relay"),
        ("cancel", "cancel needs"),
        ("cancel x", "cancel needs"),
        ("cancel ²", "cancel needs"),
        ("cancel 7", "no measurement 7"),
        ("results nobody", "no such relay"),
        ("\x00\x01", "unknown command"),
    ],
)
def test_refused_with_the_reason(world: World, line: str, part: str) -> None:
    answer = world.ctrl(line)
    assert answer["kind"] == "ERR"
    assert part in answer["error"]


@pytest.mark.parametrize(
    "name", ["relay1", "RELAY1", relay(1).fingerprint, "$" + relay(1).fingerprint.lower()]
)
def test_measure_takes_nickname_or_fingerprint(world: World, name: str) -> None:
    answer = world.ctrl(f"measure {name}")
    assert (answer["kind"], answer["fingerprint"], answer["nickname"]) == (
        "OK",
        relay(1).fingerprint,
        "relay1",
    )


def test_an_ambiguous_nickname_is_refused() -> None:
    world = World(relays=(relay(1, "twin"), relay(2, "twin")))
    world.start()
    assert "unique" in world.ctrl("measure twin")["error"]


def test_the_filter_is_obeyed(world: World) -> None:
    world = World()
    world.start(filter_text="# nobody\n")
    assert "filter does not allow" in world.ctrl("measure relay1")["error"]


def test_a_relay_without_keys_is_refused() -> None:
    world = World(relays=(relay(1, ntor_key=None),))
    world.start()
    assert "no descriptor" in world.ctrl("measure relay1")["error"]


def test_not_ready_is_told() -> None:
    world = World()
    world.say(ev.Started(bytes(32), (), (), None))
    assert "no relays are known yet" in world.ctrl("measure relay1")["error"]
    world.start()
    for name in ("m1", "m2"):
        world.say(ev.MeasurerGone(name, "x"))
    assert world.ctrl("measure relay1")["error"] == "no measurer is connected"


def test_waiting_ones_are_measured_in_order_and_can_be_cancelled(world: World) -> None:
    ids = [world.ctrl("measure relay1")["meas_id"]]
    ids += [world.ctrl("measure relay2 wait", conn=2)["meas_id"], world.ctrl("measure relay1")["meas_id"]]
    assert world.ctrl("status")["queued"] == 2
    assert world.ctrl(f"cancel {ids[1]}")["kind"] == "OK"
    assert world.events_to(2, "done")[0]["failure"]["reason"] == "cancelled by a controller"
    world.ctrl(f"cancel {ids[0]}")
    assert list(world.core.state.measurements) == [ids[0]]  # still being saved, so relay1 is not free
    world.say(ev.MeasurementStored(MeasId(ids[0])))
    assert list(world.core.state.measurements) == [ids[2]]


def test_status_and_team(world: World) -> None:
    meas_id = world.to_phase("params")
    status = world.ctrl("status")
    assert (status["state"], status["tor_client"], status["measurers"], status["relays"]) == (
        "ready",
        "up",
        2,
        2,
    )
    assert [m["phase"] for m in status["measurements"]] == ["params"]
    m1, m2 = world.shown_team()
    assert m1 == {
        "name": "m1",
        "connected": True,
        "leaving": False,
        "host": "127.0.0.1",
        "capacity_bytes": 62_500_000,
        "free_bytes": 0,
        "measurements": [meas_id],
    }
    world.say(ev.MeasurerGone("m2", "x"))
    assert world.shown_team()[1]["connected"] is False
    assert m2["connected"] is True


def test_relays_shows_what_the_filter_names_with_results(world: World) -> None:
    world.to_phase("active")
    world.play_seconds(1, 7)
    world.store()
    rows = world.ctrl("relays")["relays"]
    assert [(r["nickname"], r["result_bytes"], r["failures"]) for r in rows] == [
        ("relay1", 2_000_000, 0),
        ("relay2", None, 0),
    ]
    world.ctrl("measure relay1 wait")
    world.ctrl(f"cancel {world.meas.meas_id}")
    world.store()
    assert world.ctrl("relays")["relays"][0]["failures"] == 1


def test_results_come_from_the_store(world: World) -> None:
    world.to_phase("active")
    world.play_seconds(1, 7)
    record = world.of(do.SaveMeasurement)[0].record
    world.store()
    (query,) = world.of(do.ReadResults, world.say(ev.CtrlSaid(4, "results relay1")))
    assert query.fingerprint == relay(1).fingerprint
    (answer,) = world.of(do.SendToCtrl, world.say(ev.ResultsRead(query.query_id, (record,), None)))
    assert (answer.conn, answer.kind) == (4, "OK")
    assert answer.data["results"][0]["result_bytes"] == 2_000_000
    (query,) = world.of(do.ReadResults, world.say(ev.CtrlSaid(4, "results")))
    (answer,) = world.of(do.SendToCtrl, world.say(ev.ResultsRead(query.query_id, (), "store: damaged")))
    assert (answer.kind, answer.data) == ("ERR", {"error": "store: damaged"})


def test_v3bw_on_command(world: World) -> None:
    (write,) = world.of(do.WriteV3bw, world.say(ev.CtrlSaid(4, "v3bw")))
    effects = world.say(ev.V3bwWritten(write.query_id, "/x/v3bw.1", 2, None))
    assert [e.data for e in world.of(do.SendToCtrl, effects)] == [{"path": "/x/v3bw.1", "relays": 2}]
    assert world.ctrl("status")["v3bw"] == "/x/v3bw.1"
    (write,) = world.of(do.WriteV3bw, world.say(ev.CtrlSaid(4, "v3bw")))
    (answer,) = world.of(do.SendToCtrl, world.say(ev.V3bwWritten(write.query_id, None, 0, None)))
    assert "no relay has a recent result" in answer.data["error"]


def test_a_controller_that_leaves_hears_nothing_more_and_its_measurement_goes_on(world: World) -> None:
    world.to_phase("active")
    (write,) = world.of(do.WriteV3bw, world.say(ev.CtrlSaid(1, "v3bw")))
    world.say(ev.CtrlClosed(1))
    world.effects.clear()
    world.play_seconds(1, 7)
    world.say(ev.V3bwWritten(write.query_id, "/x", 1, None))
    assert world.of(do.SendToCtrl) == []
    assert world.of(do.SaveMeasurement)


def test_help_and_quit(world: World) -> None:
    assert "status" in world.ctrl("help")["commands"]
    effects = world.say(ev.CtrlSaid(3, "quit"))
    assert effects[-1] == do.CloseCtrl(3)
