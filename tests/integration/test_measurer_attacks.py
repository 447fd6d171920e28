"""Measurers with a good certificate that misbehave, over real TLS: only their own part ends, and others are served."""

import asyncio
import logging
import time

import pytest

from coordinator.core import effects as do
from coordinator.core import events as ev
from flashflow.shell import sessionlink, sessions
from flashflow.shell.refusals import RefusalLog
from flashflow.shell.sessionclient import Connected, Disconnected, ServerMessage
from flashflow.shell.sessions import PeerJoined, PeerMessage, PeerRefused
from flashflow.wire.rules import SessionLimits
from support.both_loops import both_loops
from support.coordinator_world import World
from support.keyring import Keyring
from support.session_net import WAIT_S, Net, frame, hello, running
from support.wire_pair import go, report

PATIENT = SessionLimits(heartbeat_s=5.0)
"""No silence ends a connection while a test looks."""
FLOOD = 3000


@pytest.fixture
def keys(tmp_path) -> Keyring:
    return Keyring(tmp_path, "m1", "m2")


def reports(count: int) -> list[bytes]:
    """Frames with valid reports, as fast as they can be written."""
    fields = [report(1 + number % 600).model_dump(mode="json") for number in range(count)]
    return [frame(type="data", seq=seq, ack=0, message=message) for seq, message in enumerate(fields, 1)]


def said_by(net: Net, name: str) -> int:
    return sum(event.name == name for event in net.told.of(PeerMessage))


@both_loops
async def test_a_flood_of_valid_messages_is_read_so_fast_and_no_faster(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "PEER_BURST_BYTES", 20_000)
    monkeypatch.setattr(sessions, "PEER_BYTES_PER_S", 1)
    flood = reports(FLOOD)
    most = (20_000 + 2 * sessionlink.READ_BYTES) // len(flood[0])
    async with running(keys, "127.0.0.1", PATIENT) as net:
        _, writer = await net.raw("m1")
        writer.write(hello() + b"".join(flood))
        await net.told.wait(lambda: said_by(net, "m1") >= 100)
        other = net.client("m2")
        await other.told.wait_of(Connected)
        for number in range(1, 101):
            other.session.send(report(number))
            net.server.send("m2", go(number))
        await net.told.wait(lambda: said_by(net, "m2") == 100)
        await other.told.wait_of(ServerMessage, 100)
        assert 100 <= said_by(net, "m1") <= most < FLOOD
        writer.close()


@both_loops
async def test_without_the_limit_the_whole_flood_is_read_but_never_much_of_it_at_once(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the test above counts is there to be counted."""
    monkeypatch.setattr(sessions, "PEER_BURST_BYTES", 1 << 30)
    flood = reports(FLOOD)
    async with running(keys, "127.0.0.1", PATIENT) as net:
        most = most_at_once(net)
        _, writer = await net.raw("m1")
        writer.write(hello() + b"".join(flood))
        await net.told.wait(lambda: said_by(net, "m1") == FLOOD)
        assert most[0] <= 2 * sessionlink.READ_BYTES // len(flood[0])
        writer.close()


def most_at_once(net: Net) -> list[int]:
    """Grows to the most events that were told without the loop's turning in between."""
    most, now = [0], [0]
    told = net.server._on_event

    def count(event: object) -> None:
        if not now[0]:
            asyncio.get_running_loop().call_soon(now.__setitem__, 0, 0)
        now[0] += 1
        most[0] = max(most[0], now[0])
        told(event)

    net.server._on_event = count
    return most


@both_loops
async def test_reconnecting_gives_a_flood_no_new_allowance(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    burst_bytes, connections = 100_000, 5
    monkeypatch.setattr(sessions, "PEER_BURST_BYTES", burst_bytes)
    monkeypatch.setattr(sessions, "PEER_BYTES_PER_S", 1)
    flood = reports(FLOOD)
    async with running(keys, "127.0.0.1", PATIENT) as net:
        for _ in range(connections):
            _, writer = await net.raw("m1")
            writer.write(hello() + b"".join(flood))
            await until_used_up(net, writer)
            writer.close()
        figures = net.server.figures()["m1"]
        most_bytes = burst_bytes + (connections + 1) * 2 * sessionlink.READ_BYTES
        assert (figures.received + figures.repeated) * len(flood[0]) <= most_bytes < connections * burst_bytes


async def until_used_up(net: Net, writer: asyncio.StreamWriter) -> None:
    """Until the new connection is the measurer's, and its allowance is gone."""
    local = writer.get_extra_info("sockname")

    def used_up() -> bool:
        peer = net.server._peers.get("m1")
        link = peer.link if peer else None
        if link is None or link._transport is None or link._allowance is None:
            return False
        mine = link._transport.get_extra_info("peername") == local
        return mine and link._allowance.whole(time.monotonic()) < 1

    async with asyncio.timeout(WAIT_S):
        while not used_up():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@both_loops
async def test_one_who_never_greets_or_drips_its_greeting_is_closed_and_others_are_served(
    keys: Keyring,
) -> None:
    async with running(keys, "127.0.0.1", SessionLimits(heartbeat_s=0.3, greeting_s=0.5)) as net:
        other = net.client("m2")
        await other.told.wait_of(Connected)
        reader, writer = await net.raw("m1")
        writer.write(hello()[:20])
        assert b"no greeting in time" in await asyncio.wait_for(reader.read(), 10.0)
        writer.close()
        other.session.send(report(1))
        assert await net.told.wait_of(PeerMessage) == [PeerMessage("m2", report(1))]
        assert [event.name for event in net.told.of(PeerJoined)] == ["m2"]
        assert other.told.of(Disconnected) == []


@both_loops
async def test_a_flood_of_refused_messages_is_denied_one_by_one_and_its_sender_stays_bounded(
    keys: Keyring,
) -> None:
    async with running(keys, "127.0.0.1", PATIENT) as net:
        other = net.client("m2")
        await other.told.wait_of(Connected)
        _, writer = await net.raw("m1")
        absurd = {"type": "BwReport", "meas_id": 1, "second": 1, "sent_bytes": -1, "recv_bytes": 10**40}
        flood = [frame(type="data", seq=seq, ack=0, message=absurd) for seq in range(1, 501)]
        writer.write(hello() + b"".join(flood))
        await net.told.wait(lambda: len(net.told.of(PeerRefused)) == 500)
        assert {event.what for event in net.told.of(PeerRefused)} == {"message"}
        assert net.server._peers["m1"].session._denied == set(), "nothing is kept of them"
        other.session.send(report(1))
        assert await net.told.wait_of(PeerMessage) == [PeerMessage("m2", report(1))]
        writer.close()


def test_reports_for_measurements_of_others_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world = World()
    world.start()
    meas_id = world.to_phase("active")
    world.say(ev.MeasurerJoined("m3", 1000, "127.0.0.3"))
    world.effects.clear()
    refusals = RefusalLog(time.monotonic)
    for number in range(500):
        foreign = report(1, meas_id if number % 2 else 1 + number)
        world.say(ev.MeasurerSaid("m3", foreign))
    for refused in world.of(do.LogRefusal):
        refusals.refused("message", f"measurer {refused.name}", refused.reason)
    assert len(world.of(do.LogRefusal)) == 500
    assert world.of(do.Log) == []
    (line,) = caplog.messages
    assert line.startswith("refused a message from measurer m3: no measurement")
    world.play_seconds(1, 7)
    assert world.store()["outcome"] == "ok"
