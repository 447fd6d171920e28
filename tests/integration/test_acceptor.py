"""Strangers at the coordinator's door, on real sockets: what they get is bounded, and measurers get in all the same."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from flashflow.shell import sessionlink
from flashflow.shell.acceptor import AcceptLimits
from flashflow.shell.sessionclient import Connected
from flashflow.shell.sessions import PeerMessage, PeerRefused
from support.both_loops import both_loops
from support.client_hello import client_hello
from support.keyring import Keyring
from support.session_net import Net, Told, running
from support.wire_pair import report

LIMITS = AcceptLimits(
    waiting=20, strangers_burst=10, strangers_per_s=0.001, host_burst=4, host_per_s=0.001, measurer_burst=50
)
UNREAD = "too many connections"
DRIP_S = 0.05
RECORD_BEGINS = b"\x17\x03\x03\x20\x00"
"""A record of TLS 1.3 with 8 KiB."""


@pytest.fixture
def keys(tmp_path) -> Keyring:
    return Keyring(tmp_path, "m1", "m2")


class Flood:
    """Strangers that say hello in TLS and never more, each from an address of its own choice."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self._sockets: list[socket.socket] = []

    async def knock(self, source: str, data: bytes | None = None) -> socket.socket:
        """One more."""
        made = socket.socket()
        made.settimeout(0)
        self._sockets.append(made)
        made.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(made, (self._net.addr.host, self._net.addr.port))
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(made, client_hello() if data is None else data)
        return made

    def close(self) -> None:
        for made in self._sockets:
            made.close()


@contextlib.contextmanager
def flooding(net: Net) -> Iterator[Flood]:
    flood = Flood(net)
    try:
        yield flood
    finally:
        flood.close()


def handshakes(net: Net, knocks: int) -> int:
    """Of so many knocks, how many got as far as TLS."""
    return knocks - sum(event.reason == UNREAD for event in net.told.of(PeerRefused))


async def refused(told: Told, count: int) -> None:
    await told.wait(lambda: sum(event.reason == UNREAD for event in told.of(PeerRefused)) >= count)


@both_loops
async def test_strangers_get_so_many_handshakes_together_and_each_address_its_share(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1", accept_limits=LIMITS) as net:
        with flooding(net) as flood:
            for _ in range(30):
                await flood.knock("127.0.0.7")
            await refused(net.told, 26)
            assert handshakes(net, 30) == 4
            for number in range(30):
                await flood.knock(f"127.0.1.{number + 1}")
            await refused(net.told, 26 + 24)
            assert handshakes(net, 60) == 10


@both_loops
async def test_without_the_limits_every_stranger_gets_one(keys: Keyring) -> None:
    """What the test above counts is there to be counted."""
    none = AcceptLimits(strangers_burst=1000, host_burst=1000)
    async with running(keys, "127.0.0.1", accept_limits=none) as net:
        with flooding(net) as flood:
            for _ in range(30):
                await flood.knock("127.0.0.7")
            client = net.client("m1")
            await client.told.wait_of(Connected)
            assert handshakes(net, 30) == 30


@both_loops
async def test_a_measurer_gets_in_ahead_of_strangers_from_its_own_address_and_loses_nothing(
    keys: Keyring,
) -> None:
    async with running(keys, "127.0.0.1", accept_limits=LIMITS) as net:
        first = net.client("m1")
        await first.told.wait_of(Connected)
        with flooding(net) as flood:
            for number in range(100):
                await flood.knock("127.0.0.1")
                first.session.send(report(1 + number % 600))
            assert handshakes(net, 100) <= 10
            second = net.client("m2")
            await second.told.wait_of(Connected)
            first.cut()
            await first.told.wait_of(Connected, 2)
            first.session.send(report(7))
            await net.told.wait_of(PeerMessage, 101)
        assert [event.message.second for event in net.told.of(PeerMessage)] == [*range(1, 101), 7]
        assert net.server.figures()["m1"].connections == 2


@both_loops
async def test_those_who_say_nothing_or_little_make_room_for_others(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessionlink, "HANDSHAKE_S", 0.5)
    async with running(keys, "127.0.0.1", accept_limits=LIMITS) as net:
        with flooding(net) as flood:
            for number in range(50):
                await flood.knock("127.0.0.1", client_hello()[: number % 6])
            client = net.client("m1")
            await client.told.wait_of(Connected)
            await net.told.wait_of(PeerRefused, 50)
        reasons = {event.reason for event in net.told.of(PeerRefused)}
        assert reasons <= {"said nothing while many others came", "no TLS handshake in time"}
        assert len(net.server._acceptor._waiting) == 0


async def drip(stranger: socket.socket, data: bytes) -> int:
    """Sends a byte at a time until the other side closes; how many it took."""
    loop = asyncio.get_running_loop()
    closed = loop.create_task(end_of(stranger))
    sent = 0
    with contextlib.suppress(OSError):
        for byte in data:
            await loop.sock_sendall(stranger, bytes((byte,)))
            sent += 1
            await asyncio.wait([closed], timeout=DRIP_S)
            if closed.done():
                break
    await closed
    return sent


async def end_of(stranger: socket.socket) -> None:
    """Reads until the other side has closed."""
    with contextlib.suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(stranger, 65_536):
            pass


@pytest.mark.parametrize("at_once", [0, 1], ids=["of its ClientHello", "of what follows its ClientHello"])
@both_loops
async def test_one_that_sends_a_byte_at_a_time_is_closed_by_the_limit(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """A byte is no sign of life: there are more of them than the limit leaves time for, many times over."""
    monkeypatch.setattr(sessionlink, "HANDSHAKE_S", 0.5)
    async with running(keys, "127.0.0.1") as net:
        with flooding(net) as flood:
            stranger = await flood.knock("127.0.0.1", client_hello() * at_once)
            if at_once:
                await asyncio.get_running_loop().sock_recv(stranger, 65_536)
            long = RECORD_BEGINS + bytes(1200) if at_once else client_hello(f"{'x' * 60}.{'x' * 60}")
            assert 0 < await drip(stranger, long) < len(long)
        (refused,) = await net.told.wait_of(PeerRefused)
        assert refused.reason == "no TLS handshake in time"


@both_loops
async def test_strangers_that_stop_in_their_handshake_keep_other_strangers_out_for_a_while_and_no_measurer(
    keys: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessionlink, "HANDSHAKE_S", 3.0)
    few = AcceptLimits(handshakes=3, strangers_burst=1000, host_burst=1000)
    async with running(keys, "127.0.0.1", accept_limits=few) as net:
        with flooding(net) as flood:
            silent = [await flood.knock("127.0.0.1") for _ in range(3)]
            for stranger in silent:
                assert await answered(stranger)
            assert not await answered(await flood.knock("127.0.0.1"))
            assert [event.reason for event in net.told.of(PeerRefused)] == [UNREAD]
            client = net.client("m1")
            await client.told.wait_of(Connected)
            for stranger in silent:
                await end_of(stranger)
            await net.told.wait_of(PeerRefused, 4)
            assert await answered(await flood.knock("127.0.0.1"))


async def answered(stranger: socket.socket) -> bool:
    """Whether the other side says something before it closes."""
    with contextlib.suppress(ConnectionError):
        return bool(await asyncio.get_running_loop().sock_recv(stranger, 65_536))
    return False


@both_loops
async def test_strangers_beyond_the_burst_get_in_at_the_rate(keys: Keyring) -> None:
    slow = AcceptLimits(strangers_burst=2, strangers_per_s=2.0, host_burst=1000)
    async with running(keys, "127.0.0.1", accept_limits=slow) as net:
        with flooding(net) as flood:
            begun_s = time.monotonic()
            let_in = 0
            while let_in < 6:
                let_in += await answered(await flood.knock("127.0.0.1"))
                await asyncio.sleep(0.01)
            assert let_in <= 2 + 2.0 * (time.monotonic() - begun_s), "not sooner than it is earned"


@both_loops
async def test_a_measurer_that_connects_again_and_again_is_bounded_too(keys: Keyring) -> None:
    few = AcceptLimits(measurer_burst=3, measurer_per_s=0.001)
    async with running(keys, "127.0.0.1", accept_limits=few) as net:
        client = net.client("m1")
        for count in range(1, 4):
            await client.told.wait_of(Connected, count)
            client.cut()
        found = await net.told.wait_of(PeerRefused)
        assert found[0].reason == "it connects too often"
        other = net.client("m2")
        await other.told.wait_of(Connected)
