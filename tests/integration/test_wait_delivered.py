"""At its end a measurer waits until its last words are taken over, whatever becomes of the connection meanwhile."""

import asyncio
from pathlib import Path

import pytest

from flashflow.shell.sessionclient import Connected
from flashflow.shell.sessions import PeerMessage
from measurer.app import FLUSH_S
from support.both_loops import both_loops
from support.keyring import Keyring
from support.session_net import running
from support.wire_pair import failure, report

FOR_EVER_S = 1e6
"""A wait of this length does not end within the test's own limit."""


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path, "m1")


@both_loops
async def test_what_was_said_while_the_connection_was_lost_is_waited_for(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        client = net.client("m1")
        await client.told.wait_of(Connected)
        client.cut()
        client.session.send(report(1))
        await client.session.wait_delivered(5.0)
        assert client.session.pending == 0
        assert net.told.of(PeerMessage) == [PeerMessage("m1", report(1))]


@both_loops
async def test_a_connection_that_is_lost_while_it_waits_is_made_again(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        client = net.client("m1")
        await client.told.wait_of(Connected)
        client.session.send(report(1))
        waiting = asyncio.create_task(client.session.wait_delivered(5.0))
        await asyncio.sleep(0)
        client.cut()
        await waiting
        assert client.session.pending == 0
        assert net.told.of(PeerMessage) == [PeerMessage("m1", report(1))]


@both_loops
async def test_a_session_that_ends_leaves_nothing_to_wait_for(keys: Keyring) -> None:
    """The coordinator began anew: what belonged to the old session is not delivered, and that is known at once."""
    async with running(keys, "127.0.0.1") as net:
        client = net.client("m1")
        await client.told.wait_of(Connected)
        client.cut()
        client.session.send(report(1))
        net.server._peers.clear()
        await client.session.wait_delivered(FOR_EVER_S)
        assert client.session.pending == 0
        assert net.told.of(PeerMessage) == []


@both_loops
async def test_nobody_waits_longer_than_asked_for_a_coordinator_that_stays_away(keys: Keyring) -> None:
    async with running(keys, "127.0.0.1") as net:
        client = net.client("m1")
        await client.told.wait_of(Connected)
        await net.server.close()
        client.session.send(failure(None))  # that it leaves is no news to a coordinator that is not there
        await client.session.wait_delivered(FOR_EVER_S)
        client.session.send(report(1))
        await client.session.wait_delivered(0.3)
        assert client.session.pending == 2


def test_a_measurer_waits_as_long_as_a_lost_connection_may_take_to_be_found_out_and_made_again() -> None:
    """3.5 s of silence, then the 5 s in which the coordinator takes it back."""
    assert FLUSH_S > 3.5 + 5.0
