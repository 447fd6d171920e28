"""Sessions over real TLS on both address families and both loops: lost links, strangers, broken frames."""

import asyncio
import socket
import struct
from datetime import timedelta
from pathlib import Path

import pytest

from flashflow.keys import load_certificate
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address
from flashflow.shell import sessionclient, sessionlink
from flashflow.shell.acceptor import AcceptLimits
from flashflow.shell.sessionclient import Connected, Disconnected, ServerMessage, SessionClient, Unreachable
from flashflow.shell.sessions import PeerGone, PeerJoined, PeerMessage, PeerRefused, SessionServer
from flashflow.wire.framing import encode_frame
from support.both_loops import both_loops
from support.client_hello import client_hello
from support.keyring import Keyring
from support.session_net import Net, Told, frame, hello, running
from support.wire_pair import go, order, report

HOSTS = ["127.0.0.1", "::1"]
both_hosts = pytest.mark.parametrize("host", HOSTS)


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path, "m1", "m2")


@both_hosts
@both_loops
async def test_a_measurer_joins_talks_and_leaves(keys: Keyring, host: str) -> None:
    async with running(keys, host) as net:
        client = net.client("m1")
        assert await net.told.wait_of(PeerJoined) == [PeerJoined("m1", 1000, host)]
        assert await client.told.wait_of(Connected) == [Connected(host, resumed=False)]
        net.server.send("m1", order())
        client.session.send(report(1))
        client.session.send(report(2))
        assert await client.told.wait_of(ServerMessage) == [ServerMessage(order())]
        await net.told.wait_of(PeerMessage, 2)
        assert net.told.of(PeerMessage) == [PeerMessage("m1", report(1)), PeerMessage("m1", report(2))]
        await client.session.wait_delivered(5.0)
        assert client.session.pending == 0
        await client.stop()
        assert await net.told.wait_of(PeerGone) == [PeerGone("m1", "closed by the other side")]
        net.server.send("m1", go())
        assert [(name, notice.reason) for name, notice in net.undelivered] == [("m1", "not connected")]


@both_hosts
@both_loops
async def test_a_link_that_is_lost_and_comes_back_costs_nothing(keys: Keyring, host: str) -> None:
    async with running(keys, host) as net:
        client = net.client("m1")
        await client.told.wait_of(Connected)
        for number in range(1, 6):
            client.session.send(report(number))
            net.server.send("m1", go(number))
            client.cut()
            await client.told.wait_of(Connected, number + 1)
        await net.told.wait_of(PeerMessage, 5)
        await client.told.wait_of(ServerMessage, 5)
        assert net.told.of(PeerMessage) == [PeerMessage("m1", report(number)) for number in range(1, 6)]
        assert client.told.of(ServerMessage) == [ServerMessage(go(number)) for number in range(1, 6)]
        assert all(event.resumed for event in client.told.of(Connected)[1:])
        assert len(client.told.of(Disconnected)) == 5
        assert len(net.told.of(PeerJoined)) == 1
        assert net.told.of(PeerGone) == net.undelivered == []


@both_loops
@pytest.mark.parametrize(("resume_s", "most"), [(1e9, (0.1,) * 4), (0.0, (0.2, 0.4, 0.4, 0.4))])
async def test_while_its_session_can_be_resumed_a_measurer_tries_again_at_once(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch, resume_s: float, most: tuple[float, ...]
) -> None:
    """Ever more slowly only after that."""
    monkeypatch.setattr(sessionclient, "RESUME_S", resume_s)
    async with running(keys, "127.0.0.1") as net:
        client = net.client("m1")
        await client.told.wait_of(Connected)
        await net.server.close()
        tries = await client.told.wait_of(Unreachable, len(most))
    for attempt, most_s in zip(tries, most, strict=False):
        assert most_s / 2 <= attempt.retry_s <= most_s


@both_loops
async def test_a_measurer_that_stays_away_is_gone_and_its_messages_are_undelivered(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        client = net.client("m1")
        await net.told.wait_of(PeerJoined)
        await client.stop()
        net.server.send("m1", go(7))
        await net.told.wait_of(PeerGone)
        assert [(name, notice.message) for name, notice in net.undelivered] == [("m1", go(7))]
        net.client("m1")
        assert len(await net.told.wait_of(PeerJoined, 2)) == 2


@both_loops
async def test_a_restarted_measurer_begins_a_new_session(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        first = net.client("m1")
        await net.told.wait_of(PeerJoined)
        await first.stop()
        net.client("m1")
        await net.told.wait_of(PeerJoined, 2)
        assert [type(event) for event in net.told.events] == [PeerJoined, PeerGone, PeerJoined]


@both_loops
async def test_a_second_connection_replaces_one_that_hangs(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        reader, writer = await net.raw("m1")
        writer.write(hello())
        await net.told.wait_of(PeerJoined)
        client = net.client("m1")
        await client.told.wait_of(Connected)
        while await reader.read(4096):
            pass
        writer.close()
        net.server.send("m1", go())
        assert await client.told.wait_of(ServerMessage) == [ServerMessage(go())]


@both_loops
async def test_a_silent_peer_is_closed_after_three_heartbeats(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        _, writer = await net.raw("m1")
        writer.write(hello())
        await net.told.wait_of(PeerJoined)
        gone = await net.told.wait_of(PeerGone)
        assert "no heartbeat for" in gone[0].reason
        writer.close()


@both_hosts
@both_loops
async def test_strangers_are_refused_in_one_line_and_others_are_served(keys: Keyring, host: str) -> None:
    keys.add("stranger", known=False)
    keys.add("old", age=timedelta(days=4000))
    async with running(keys, host) as net:
        good = net.client("m1")
        await good.told.wait_of(Connected)
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" * 50, b"\x00" * 5000, b"x"):
            _, writer = await asyncio.open_connection(net.addr.host, net.addr.port)
            writer.write(data)
            writer.write_eof()
            await net.told.wait_of(PeerRefused, len(net.told.of(PeerRefused)) + 1)
            writer.close()
        for name in (None, "stranger", "old"):
            before = len(net.told.of(PeerRefused))
            with pytest.raises(OSError, match=r"alert|ALERT"):
                await read_all(net, name)
            await net.told.wait_of(PeerRefused, before + 1)
        refused = [event.reason for event in net.told.of(PeerRefused)]
        assert refused[0] == "the other side speaks HTTP, not TLS"
        assert "shows a certificate that is not trusted: copy its present .cert.pem to" in refused[5]
        assert "certificate has expired: make a new one" in refused[6]
        assert all(
            "\n" not in reason and host == event.host
            for reason, event in zip(refused, net.told.of(PeerRefused), strict=True)
        )
        good.session.send(report(1))
        assert await net.told.wait_of(PeerMessage) == [PeerMessage("m1", report(1))]
        assert len(good.told.of(Connected)) == 1


async def read_all(net: Net, name: str | None) -> bytes:
    """In TLS 1.3 a client that is refused learns it here, at its first read."""
    reader, writer = await net.raw(name)
    try:
        return await asyncio.wait_for(reader.read(), 5.0)
    finally:
        writer.close()


@both_hosts
@both_loops
async def test_a_refused_measurer_explains_it_and_tries_again(keys: Keyring, host: str) -> None:
    keys.add("m3", known=False)
    async with running(keys, host) as net:
        client = net.client("m3")
        events = await client.told.wait_of(Unreachable, 2)
        assert events[0].reason == (
            f"coordinator {net.addr}: the other side does not know our certificate ({keys.key('m3')}): "
            "copy our .cert.pem into its key directory"
        )
        assert 0.05 <= events[0].retry_s <= 0.1
        assert 0.1 <= events[1].retry_s <= 0.2
        wrong = net.client("m1", cert=keys.key("m2"))
        reason = (await wrong.told.wait_of(Unreachable))[0].reason
        assert reason.endswith(
            f"shows a certificate that is not trusted: copy its present .cert.pem to {keys.key('m2')}"
        )


@both_loops
async def test_the_certificate_decides_and_not_the_name_in_the_greeting(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        reader, writer = await net.raw("m2")
        writer.write(hello("m1"))
        denial = await reader.read()
        assert b"greets as m1, but its certificate says m2" in denial
        writer.close()
        assert net.told.of(PeerJoined) == []
        assert net.told.of(PeerRefused)[0].reason == "m2: greets as m1, but its certificate says m2"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ((10**6).to_bytes(4, "big") + b"x" * 10**6, "frame of 1000000 bytes (expected 1 to 65536)"),
        (encode_frame(b"\xff\xfe{}"), "frame is not UTF-8"),
        (encode_frame(b'{"type":'), "frame refused: Invalid JSON"),
        (frame(type="telemetry"), "frame refused"),
        (frame(type="heartbeat", ack=10), "acknowledges message 10"),
    ],
    ids=["1 MB frame", "bad UTF-8", "bad JSON", "unknown frame", "wrong number"],
)
@both_loops
async def test_a_broken_frame_is_denied_and_ends_that_peers_part_only(
    keys: Keyring, data: bytes, reason: str
) -> None:
    async with running(keys, "127.0.0.1") as net:
        good = net.client("m2")
        await good.told.wait_of(Connected)
        reader, writer = await net.raw("m1")
        writer.write(hello() + data)
        answer = await asyncio.wait_for(reader.read(), 5.0)
        assert b"denial" in answer
        assert reason.encode() in answer
        writer.close()
        assert net.told.of(PeerRefused)[0].reason.startswith(f"m1: {reason}")
        good.session.send(report(1))
        assert await net.told.wait_of(PeerMessage) == [PeerMessage("m2", report(1))]


@both_loops
async def test_half_a_frame_is_complained_about(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        _, writer = await net.raw("m1")
        writer.write(hello() + frame(type="heartbeat", ack=0)[:11])
        await net.told.wait_of(PeerJoined)
        writer.close()
        refused = await net.told.wait_of(PeerRefused)
        assert refused[0].reason == "m1: connection ended within a frame (11 bytes of it came)"


@both_loops
async def test_an_unknown_message_is_denied_and_the_connection_goes_on(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        reader, writer = await net.raw("m1")
        writer.write(hello() + frame(type="data", seq=1, ack=0, message={"type": "Gossip", "meas_id": 1}))
        writer.write(frame(type="data", seq=2, ack=0, message=report(1).model_dump(mode="json")))
        assert await net.told.wait_of(PeerMessage) == [PeerMessage("m1", report(1))]
        answer = await reader.readuntil(b'"ack":2}')
        assert b'"type":"denial","seq":1' in answer
        refused = net.told.of(PeerRefused)[0]
        assert "m1: message refused" in refused.reason
        assert refused.what == "message"
        writer.close()


@both_loops
async def test_a_connection_that_never_shakes_hands_is_dropped(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessionlink, "HANDSHAKE_S", 0.2)
    async with running(keys, "127.0.0.1") as net:
        reader, writer = await asyncio.open_connection(net.addr.host, net.addr.port)
        assert await asyncio.wait_for(reader.read(), 5.0) == b""
        writer.close()
        refused = await net.told.wait_of(PeerRefused)
        assert (refused[0].reason, refused[0].what) == ("no TLS handshake in time", "connection")


@pytest.mark.parametrize("data", [b"\x00" * 5000, b"GET / HTTP/1.1\r\n\r\n"])
@both_loops
async def test_a_stranger_that_is_gone_when_it_is_refused_is_no_bug_of_ours(
    keys: Keyring, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written to tell it why fails, and with that the transport ends within the call."""
    async with running(keys, "127.0.0.1") as net:
        stranger = socket.create_connection(tuple(net.addr))
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reset_first(net, stranger, monkeypatch)
        stranger.sendall(data)
        await net.told.wait_of(PeerRefused)
        client = net.client("m1")
        await client.told.wait_of(Connected)


def reset_first(net: Net, stranger: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between what is read of the stranger and the answer, its side is reset."""
    welcome = net.server._acceptor._welcome

    def reset_and_welcome(connection: socket.socket, host: str, first: bytes) -> asyncio.Future[None]:
        stranger.close()
        return welcome(connection, host, first)

    monkeypatch.setattr(net.server._acceptor, "_welcome", reset_and_welcome)


@both_loops
async def test_a_server_that_ends_while_strangers_come_and_go_ends_in_peace(keys: Keyring) -> None:
    """With connections in all states: not accepted, just accepted, refused, and gone by reset."""
    async with running(
        keys, "127.0.0.1", accept_limits=AcceptLimits(strangers_burst=99, host_burst=99)
    ) as net:
        strangers = [socket.create_connection(tuple(net.addr)) for _ in range(60)]
        for number, stranger in enumerate(strangers):
            stranger.sendall(client_hello() if number % 3 else b"\x00" * 100)
            if number % 10 == 0:
                await asyncio.sleep(0)
        for stranger in strangers:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            stranger.close()
        await net.server.close()
        assert net.server._links == set() or all(link.closing for link in net.server._links)


@both_loops
async def test_many_idle_strangers_do_not_keep_a_measurer_out(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessionlink, "HANDSHAKE_S", 0.3)
    async with running(keys, "127.0.0.1") as net:
        idle = [await asyncio.open_connection(net.addr.host, net.addr.port) for _ in range(100)]
        client = net.client("m1")
        await client.told.wait_of(Connected)
        for _, writer in idle:
            writer.close()


@both_hosts
@both_loops
async def test_what_keeps_the_server_from_starting_is_one_line(keys: Keyring, host: str) -> None:
    async with running(keys, host) as net:
        second = SessionServer(key_file=keys.coord_key, peers_dir=keys.coord_dir, on_event=Told())
        with pytest.raises(
            LocalError, match=r"cannot listen on .* in use \(does another coordinator run\?\)"
        ):
            await second.start(net.addr)
        with pytest.raises(LocalError, match=r"cannot listen on no\.such.host.invalid:1"):
            await second.start(Address("no.such.host.invalid", 1))
        await second.close()


def test_missing_and_foreign_key_files_are_one_line(keys: Keyring, tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="no such key"):
        SessionServer(key_file=tmp_path / "none.pem", peers_dir=keys.coord_dir, on_event=Told())
    with pytest.raises(LocalError, match="no private key"):
        SessionServer(key_file=keys.coord_cert, peers_dir=keys.coord_dir, on_event=Told())
    options = {"coord_addr": Address("127.0.0.1", 1), "capacity_bytes": 1, "on_event": Told()}
    with pytest.raises(LocalError, match="this is our own certificate"):
        SessionClient(key_file=keys.key("m1"), coord_cert=keys.key("m1"), **options)
    with pytest.raises(LocalError, match="no such key"):
        SessionClient(key_file=keys.key("m1"), coord_cert=tmp_path / "none.pem", **options)


@both_loops
async def test_a_server_that_ends_says_so(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        client = net.client("m1")
        await client.told.wait_of(Connected)
        net.server.send("m1", go())
        await net.server.close()
        assert (await client.told.wait_of(Disconnected))[0].reason == "closed by the other side"
        assert client.told.of(ServerMessage) == [ServerMessage(go())]
        assert "refused" in (await client.told.wait_of(Unreachable))[0].reason
        assert net.told.of(PeerGone) == []


@both_loops
async def test_a_coordinator_that_restarts_is_found_again_and_knows_nothing(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        client = net.client("m1")
        await client.told.wait_of(Connected)
        await net.server.close()
        again = Net(keys)
        await again.server.start(net.addr)
        await client.told.wait_of(Connected, 2)
        assert client.told.of(Connected)[1].resumed is False
        await again.server.close()
        assert load_certificate(keys.coord_cert).name == "coord"
