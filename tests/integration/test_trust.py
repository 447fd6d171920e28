"""Certificates that come, go and are renewed while both sides run."""

import asyncio
import logging
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flashflow.keys import keygen, load_certificate, load_own
from flashflow.keys.certificates import export_certificate
from flashflow.shell import sessions
from flashflow.shell.mtls import TlsPipe, client_context
from flashflow.shell.sessionclient import Connected, Disconnected, ServerMessage, Unreachable
from flashflow.shell.sessions import PeerGone, PeerJoined, PeerMessage, PeerRefused
from support.both_loops import both_loops
from support.keyring import Keyring
from support.session_net import QUICK, WAIT_S, Net, frame, hello, running
from support.wire_pair import go, order, report

KERNEL_BYTES = 4096
"""What the kernel is asked to keep of a connection, each way; it takes some times that."""
MESSAGES = 499
LEAST_WAITING_BYTES = 100_000
"""Of 499 orders, more than 200 kB."""


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    monkeypatch.setattr(sessions, "TRUST_CHECK_S", 0.1)
    return Keyring(tmp_path, "m1", "m2")


def renew(path: Path, name: str) -> None:
    """Another key in place of the one in `path`, in one step."""
    new = path.with_suffix(".new")
    keygen(new, name, datetime.now(UTC))
    new.replace(path)


def replace_certificate(key: Path, target: Path) -> None:
    new = target.with_suffix(".new")
    export_certificate(key, new)
    new.replace(target)


@both_loops
async def test_a_new_measurer_gets_in_without_a_restart(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        keys.add("m3", known=False)
        client = net.client("m3")
        await client.told.wait_of(Unreachable)
        export_certificate(keys.key("m3"), keys.coord_dir / "m3.cert.pem")
        await client.told.wait_of(Connected)


@both_loops
async def test_a_certificate_that_is_removed_ends_that_measurers_session_and_no_other(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        first, second = net.client("m1"), net.client("m2")
        await net.told.wait_of(PeerJoined, 2)
        (keys.coord_dir / "m1.cert.pem").unlink()
        (gone,) = await net.told.wait_of(PeerGone)
        assert (gone.name, gone.reason) == ("m1", f"its certificate is not in {keys.coord_dir} any more")
        await first.told.wait_of(Disconnected)
        assert "does not know our certificate" in (await first.told.wait_of(Unreachable))[-1].reason
        second.session.send(report(1))
        assert await net.told.wait_of(PeerMessage) == [PeerMessage("m2", report(1))]
        assert second.told.of(Disconnected) == []


@both_loops
async def test_a_measurers_key_is_renewed_and_its_session_goes_on(keys: Keyring) -> None:
    """Its own file first, then the certificate at the coordinator, whose connection under the old one ends."""
    async with running(keys, "127.0.0.1") as net:
        client = net.client("m1")
        await client.told.wait_of(Connected)
        renew(keys.key("m1"), "m1")
        client.session.send(report(1))
        replace_certificate(keys.key("m1"), keys.coord_dir / "m1.cert.pem")
        await client.told.wait_of(Disconnected)
        client.session.send(report(2))
        connected = await client.told.wait_of(Connected, 2)
        assert connected[1].resumed
        await net.told.wait_of(PeerMessage, 2)
        assert [event.message.second for event in net.told.of(PeerMessage)] == [1, 2]
        assert net.told.of(PeerGone) == []


@both_loops
async def test_the_coordinators_key_is_renewed_for_new_connections(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        first = net.client("m1")
        await first.told.wait_of(Connected)
        renew(keys.coord_key, "coord")
        await asyncio.sleep(0)
        stale = net.client("m2", cert=keys.coord_cert)  # it was given the old certificate
        assert "is not trusted" in (await stale.told.wait_of(Unreachable))[0].reason
        replace_certificate(keys.coord_key, keys.coord_cert)
        await stale.told.wait_of(Connected)
        first.session.send(report(1))
        await net.told.wait_of(PeerMessage)
        assert first.told.of(Disconnected) == []


@both_loops
async def test_a_file_that_cannot_be_used_changes_nothing_and_is_told_once(
    keys: Keyring, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with running(keys, "127.0.0.1") as net:
        client = net.client("m1")
        await client.told.wait_of(Connected)
        half = keys.coord_dir / "half.pem"
        half.write_text("-----BEGIN CERTIFICATE-----\nMIIB")
        client.cut()
        await client.told.wait_of(Connected, 2)
        assert "half.pem" in caplog.messages[0]
        assert all("what was read before goes on" in line for line in caplog.messages)
        half.unlink()
        (keys.coord_dir / "m2.cert.pem").unlink()
        client.cut()
        await client.told.wait_of(Connected, 3)
        other = net.client("m2")
        await other.told.wait_of(Unreachable)


@both_loops
async def test_a_file_that_cannot_be_used_keeps_nobody_in_who_is_revoked(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        first, second = net.client("m1"), net.client("m2")
        await net.told.wait_of(PeerJoined, 2)
        (keys.coord_dir / "half.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB")
        (keys.coord_dir / "m2.cert.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB")
        (keys.coord_dir / "m1.cert.pem").unlink()
        (gone,) = await net.told.wait_of(PeerGone)
        assert gone.name == "m1"
        assert "does not know our certificate" in (await first.told.wait_of(Unreachable))[-1].reason
        second.session.send(report(1))
        assert await net.told.wait_of(PeerMessage) == [PeerMessage("m2", report(1))]
        second.cut()
        await second.told.wait_of(Connected, 2)
        assert [event.name for event in net.told.of(PeerGone)] == ["m1"]


@both_loops
async def test_what_waits_for_a_peer_can_be_asked_for_and_is_named_when_it_is_gone(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        client = net.client("m1")
        await client.told.wait_of(Connected)
        assert net.server.is_buffer_empty("m1")
        await client.stop()
        net.server.send("m1", go(5))
        net.server.send("m1", go(6))
        assert not net.server.is_buffer_empty("m1")
        assert (net.server.pending_of("m1", 5), net.server.pending_of("m1", 7)) == (1, 0)
        assert net.server.figures()["m1"].pending == 2
        (gone,) = await net.told.wait_of(PeerGone)
        assert [notice.message for notice in gone.undelivered] == [go(5), go(6)]
        assert net.server.is_buffer_empty("m1")
        assert net.server.is_buffer_empty("nobody")


@both_loops
async def test_a_peer_that_is_watched_no_more_gets_first_what_waits_for_it(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        client, other = net.client("m1"), net.client("m2")
        await net.told.wait_of(PeerJoined, 2)
        for number in range(1, 200):
            net.server.send("m1", go(number))
        await net.server.stop_watching("m1")
        net.server.send("m1", go(1000))
        await client.told.wait_of(Disconnected)
        assert client.told.of(ServerMessage) == [ServerMessage(go(number)) for number in range(1, 200)]
        assert [(name, notice.message, notice.certain) for name, notice in net.undelivered] == [
            ("m1", go(1000), True)
        ]
        net.server.send("m2", go(1))
        await other.told.wait_of(ServerMessage)


@both_loops
async def test_a_message_to_ourselves_needs_no_wire(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        net.server.send("coord", go(3))
        assert net.told.of(PeerMessage) == [PeerMessage("coord", go(3))]


@both_loops
async def test_a_peer_that_does_not_read_delays_nobody(keys: Keyring) -> None:
    """What the kernel takes of its messages is little, all else waits at the server."""
    async with running(keys, "127.0.0.1") as net:
        net.server._listeners[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        client = net.client("m2")
        await client.told.wait_of(Connected)
        deaf = await Deaf.join(net, "m1")
        try:
            for number in range(1, MESSAGES + 1):
                net.server.send("m1", order(number))
                net.server.send("m2", order(number))
            await client.told.wait_of(ServerMessage, MESSAGES)
            assert waiting_bytes(net, "m1") > LEAST_WAITING_BYTES
            for second in range(1, 4):
                client.session.send(report(second))
                await net.told.wait_of(PeerMessage, second)
            assert waiting_bytes(net, "m1") > LEAST_WAITING_BYTES
            assert net.server.figures()["m1"].pending == MESSAGES
            await net.server.stop_watching("m2", WAIT_S)
            assert net.undelivered == [], "m2 took everything over"
            assert net.told.of(PeerRefused) == net.told.of(PeerGone) == []
        finally:
            deaf.close()


def waiting_bytes(net: Net, name: str) -> int:
    """What the server has written for a peer and the kernel has not taken."""
    link = net.server._peers[name].link
    assert link is not None
    assert link._transport is not None
    return link._transport.get_write_buffer_size()


class Deaf:
    """A measurer that joins and reads no more, but says that it lives."""

    def __init__(self, connection: socket.socket, tls: TlsPipe) -> None:
        self._socket = connection
        self._tls = tls
        self._beating = asyncio.get_running_loop().create_task(self._beat())

    @classmethod
    async def join(cls, net: Net, name: str) -> "Deaf":
        loop = asyncio.get_running_loop()
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
        connection.settimeout(0)
        await loop.sock_connect(connection, (net.addr.host, net.addr.port))
        own = load_own(net.keys.key(name), datetime.now(UTC))
        tls = TlsPipe(client_context(own, load_certificate(net.keys.coord_cert)), server_side=False)
        tls.start()
        while not tls.open:
            await loop.sock_sendall(connection, tls.take_outgoing())
            tls.receive(await loop.sock_recv(connection, KERNEL_BYTES))
        tls.send(hello(name))
        await loop.sock_sendall(connection, tls.take_outgoing())
        await net.told.wait(lambda: name in [event.name for event in net.told.of(PeerJoined)])
        return cls(connection, tls)

    def close(self) -> None:
        self._beating.cancel()
        self._socket.close()

    async def _beat(self) -> None:
        while True:
            self._tls.send(frame(type="heartbeat", ack=0))
            await asyncio.get_running_loop().sock_sendall(self._socket, self._tls.take_outgoing())
            await asyncio.sleep(QUICK.heartbeat_s / 2)
