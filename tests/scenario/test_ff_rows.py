"""Rows of docs/conformance.md that the other scenarios do not show: what the original FlashFlow got wrong, got right."""

import logging
from typing import Any

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.params import Params
from flashflow.model.ids import Fingerprint, MeasId
from flashflow.model.reports import SecondReport
from flashflow.store.latest import LatestResult
from flashflow.torctl import events as tor
from flashflow.torctl.client import SendTorCommand, TorCameUp, TorWasLost
from flashflow.wire import messages as wire
from support.coordinator_world import MIDNIGHT, World, relay


def started(params: Params | None = None, relays: int = 2, results: tuple[LatestResult, ...] = ()) -> World:
    world = World(params, tuple(relay(n) for n in range(1, relays + 1)))
    world.start(results)
    return world


def estimate(number: int, result_bytes: int) -> LatestResult:
    """An accepted result of relay `number`."""
    known = relay(number)
    return LatestResult(
        known.fingerprint, known.nickname, "echo", MIDNIGHT, result_bytes, 0, True, known.bandwidth_avg_bytes
    )


def test_nothing_starts_before_every_measurer_is_connected_and_tor_hears_it_first() -> None:
    world = started()
    meas_id = world.to_phase("connecting")
    world.effects.clear()
    ready = wire.ConnectedToRelay(meas_id=meas_id, n_circs=world.meas.shares["m1"].n_circs)
    assert world.say(ev.MeasurerSaid("m1", ready)) == []
    assert world.meas.phase.value == "connecting"
    (begin,) = world.of(SendTorCommand, world.say(ev.MeasurerSaid("m2", ready)))
    assert begin.line.startswith(f"COORD_START_MEAS {meas_id} ")
    assert world.of(do.SendToMeasurer) == []
    gos = world.of(do.SendToMeasurer, world.reply())
    assert [(go.name, type(go.message)) for go in gos] == [("m1", wire.Go), ("m2", wire.Go)]


def test_a_refused_start_sends_no_go_but_stop_to_every_measurer() -> None:
    world = started()
    world.to_phase("starting")
    world.effects.clear()
    world.reply("not now", ok=False)
    sent: list[Any] = world.of(do.SendToMeasurer)
    assert [(one.name, type(one.message)) for one in sent] == [("m1", wire.Stop), ("m2", wire.Stop)]
    assert "not now" in sent[0].message.reason


def test_it_is_complete_only_with_everybodys_last_report() -> None:
    world = started()
    world.to_phase("active")
    world.play_seconds(1, 6)
    world.sleep(1.0)
    world.report("m1", 5, 1_000_000)
    world.background(7, 0, 0)
    assert world.meas.phase.value == "active"
    world.report("m2", 5, 1_000_000)
    assert world.meas.phase.value == "saving"


def test_an_id_in_use_is_never_drawn_again() -> None:
    """Two coordinators of the same seed, of which one has a measurement of the first id that it would draw."""
    free, used = World(), World()
    for world in (free, used):
        world.say(ev.Started(b"\x07" * 32, (), (), None))
    first, second = free.core.state.new_meas_id(), free.core.state.new_meas_id()
    other = started()
    other.to_phase("launching")
    used.core.state.measurements[first] = other.meas
    assert used.core.state.new_meas_id() == second


def test_no_more_is_begun_than_the_team_has_free() -> None:
    """Two relays of 20 MB/s take 118.125 of 125 MB/s; the third waits until one of them has ended."""
    world = started(relays=3, results=tuple(estimate(n, 20_000_000) for n in (1, 2, 3)))
    for n in (1, 2, 3):
        world.ctrl(f"measure relay{n}")
    assert [m.relay.nickname for m in world.core.state.measurements.values()] == ["relay1", "relay2"]
    assert all(row["free_bytes"] >= 0 for row in world.shown_team())
    first = next(iter(world.core.state.measurements))
    world.ctrl(f"cancel {first}")
    world.say(ev.MeasurementStored(first))
    assert [m.relay.nickname for m in world.core.state.measurements.values()] == ["relay2", "relay3"]


def asked_circuits(world: World) -> list[int]:
    """How many circuits each measurer was asked for."""
    messages = [effect.message for effect in world.of(do.SendToMeasurer)]
    return [message.n_circs for message in messages if isinstance(message, wire.ConnectToRelay)]


def test_circuits_follow_the_rate() -> None:
    world = started(results=(estimate(1, 1_000_000),))
    world.to_phase("connecting", "relay1")
    (small, _) = asked_circuits(world)
    world.ctrl(f"cancel {world.meas.meas_id}")
    world.store()
    world.effects.clear()
    world.to_phase("connecting", "relay2")  # no estimate: the whole team
    (large, _) = asked_circuits(world)
    assert 1 <= small < large <= 80


def test_a_second_is_its_number_whatever_the_clocks_show() -> None:
    world = started()
    world.to_phase("active")
    for number, step in enumerate((0.0, 0.0, -3600.0, 0.0, 7200.0, -0.5, 0.0), start=1):
        world.utc_s += step
        world.play_seconds(number, number, recv=1_000_000 + number)
    record = world.of(do.SaveMeasurement)[-1].record
    assert record.result_bytes == 2_000_010  # the median of seconds 1 to 5 is that of the relay's fifth
    for share in record.shares:
        assert [report.second for report in share.reports] == [1, 2, 3, 4, 5]
    shown = [event["total_bytes"] for event in world.events_to(1, "second")]
    assert sorted(shown)[2] == record.result_bytes


def test_late_reports_of_an_old_measurement_do_not_reach_the_relays_new_one() -> None:
    world = started()
    old = world.to_phase("active")
    world.ctrl(f"cancel {old}")
    world.store()
    world.to_phase("active")
    late = wire.BwReport(meas_id=old, second=1, sent_bytes=0, recv_bytes=10**9)
    world.say(ev.MeasurerSaid("m1", late))
    assert world.say(tor.BwReport(old, 1, 10**9, 10**9)) == []
    assert world.say(tor.MeasEnd(old, True)) == []
    world.play_seconds(1, 7)
    assert world.store()["result_bytes"] == 2_000_000


def test_background_alone_makes_a_failure_with_its_reason() -> None:
    world = started()
    world.to_phase("active")
    for second in range(1, 8):
        world.sleep(1.0)
        world.background(second, 7, 5)
    world.sleep(20)
    done = world.store()
    assert (done["outcome"], done["result_bytes"]) == ("failed", None)
    assert done["failure"]["reason"] == "measurer m1 gave 0 of 5 reports in time"
    record = world.of(do.SaveMeasurement)[-1].record
    assert record.background == tuple(SecondReport(second, 7, 5) for second in range(1, 6))


def test_with_a_new_tor_client_relays_are_measured_again() -> None:
    world = started()
    world.to_phase("active")
    world.say(TorWasLost("it ended with status -9"))
    world.store()
    assert "not ready" in world.ctrl("measure relay1")["error"]
    assert world.ctrl("status")["tor_client"] == "down"
    world.say(TorCameUp())
    world.to_phase("active")
    world.play_seconds(1, 7)
    assert world.store()["outcome"] == "ok"


def test_a_measurer_that_comes_back_measures_again() -> None:
    world = started()
    world.to_phase("active")
    world.say(ev.MeasurerGone("m1", "no heartbeat"))
    world.store()
    world.say(ev.MeasurerJoined("m1", 62_500_000, "127.0.0.1"))
    world.to_phase("active")
    assert sorted(world.meas.shares) == ["m1", "m2"]
    world.play_seconds(1, 7)
    assert world.store()["outcome"] == "ok"


def test_the_log_has_hosts_and_reasons_but_neither_tokens_nor_reports() -> None:
    world = World()
    world.say(ev.Started(b"\x07" * 32, (), (), None))
    world.start()
    joined = world.say(ev.MeasurerJoined("m9", 1000, "192.0.2.9"))
    assert [log.text for log in world.of(do.Log, joined)] == ["measurer m9 joined from 192.0.2.9"]
    world.to_phase("active")
    tokens = [share.token.hex() for share in world.meas.shares.values()]
    before = len(world.of(do.Log))
    world.play_seconds(1, 5)
    assert len(world.of(do.Log)) == before
    world.say(TorWasLost("status -9"))
    warned = [log.text for log in world.of(do.Log) if log.level == logging.WARNING]
    assert any("failed (local): the coordinator's Tor client was lost: status -9" in text for text in warned)
    assert not [log for log in world.of(do.Log) for token in tokens if token in log.text]


def test_status_tells_starting_ready_and_draining() -> None:
    world = World()
    world.say(ev.Started(bytes(32), (), (), None))
    states = [world.ctrl("status")["state"]]
    world.start()
    states.append(world.ctrl("status")["state"])
    world.to_phase("active")
    world.say(ev.StopRequested())
    states.append(world.ctrl("status")["state"])
    assert states == ["starting", "ready", "draining"]


def test_the_next_slot_is_always_armed() -> None:
    world = started(Params(duration_s=5, warmup_s=2, slot_s=30, period_s=300), relays=1)
    seen = []
    for _ in range(3):
        at = world.core.state.next_slot_utc_s
        assert at % 30 == 0
        assert world.utc_s < at <= world.utc_s + 30
        timer = world.core.next_timer()
        assert timer is not None
        assert timer - world.mono_s <= at - world.utc_s + 1e-6
        seen.append(at)
        world.sleep(30)
    assert seen == [seen[0], seen[0] + 30, seen[0] + 60]


def test_the_largest_estimate_is_measured_first_in_a_period() -> None:
    """The slots have no room for both large ones; the small one fits in beside the first."""
    results = (estimate(1, 24_000_000), estimate(3, 30_000_000))
    params = Params(duration_s=5, warmup_s=2, slot_s=30, period_s=300, strategy="fastest")
    world = started(params, relays=3, results=results)
    order: list[list[Fingerprint]] = []
    for _ in range(2):
        world.sleep(30)
        order.append([meas.relay.fingerprint for meas in world.core.state.measurements.values()])
        for meas_id in list(world.core.state.measurements):
            world.ctrl(f"cancel {meas_id}")
            world.say(ev.MeasurementStored(MeasId(meas_id)))
    assert order == [[relay(3).fingerprint, relay(2).fingerprint], [relay(1).fingerprint]]
