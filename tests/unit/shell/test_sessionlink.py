"""One connection under a session, on a transport that a test plays."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flashflow.keys import load_certificate, load_own
from flashflow.shell import sessionlink
from flashflow.shell.mtls import TlsPipe, client_context
from flashflow.shell.sessionlink import SessionLink
from flashflow.shell.sessions import PeerJoined
from flashflow.wire.rules import Role
from flashflow.wire.session import Session
from support.keyring import Keyring
from support.session_net import Net
from support.wire_pair import epoch, go


class FakeTransport(asyncio.Transport):
    """Takes bytes and never sends them."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.waiting = bytearray()
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.waiting += data

    def take(self) -> bytes:
        """What was written, as if the peer had read it."""
        taken = bytes(self.waiting)
        self.waiting.clear()
        return taken

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path, "m1")


async def test_a_peer_that_does_not_read_is_cut_off(keys: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessionlink, "MAX_UNREAD_BYTES", 2000)
    net = Net(keys)
    link, transport = opened(net)
    for number in range(1, 100):
        net.server.send("m1", go(number))
    assert transport.aborted
    assert link.close_reason == "it does not read what it is sent"
    assert len(transport.waiting) < 3000
    link.connection_lost(None)


async def test_after_a_stall_of_the_loop_the_peer_is_read_before_it_is_called_silent(keys: Keyring) -> None:
    net = Net(keys)
    link, _ = opened(net)
    link._due_s = 0.0  # the loop stood still for longer than three heartbeats
    assert link._session is not None
    link._session._heard_s = 0.0
    link._time_passed()
    assert link.close_reason is None
    net.server.send("m1", go())  # changes nothing about that
    link._time_passed()  # and nothing came
    assert "no heartbeat for" in str(link.close_reason)
    link.connection_lost(None)


def opened(net: Net) -> tuple[SessionLink, FakeTransport]:
    """A link of the server over which m1 has joined."""
    server = net.server
    link = SessionLink(
        TlsPipe(server._trust.context, server_side=True),
        server._link_made,
        server._link_event,
        server._link_lost,
    )
    transport = FakeTransport()
    link.connection_made(transport)
    coordinator = load_certificate(net.keys.coord_cert)
    tls = TlsPipe(
        client_context(load_own(net.keys.key("m1"), datetime.now(UTC)), coordinator), server_side=False
    )
    session = Session(Role.MEASURER, "m1", 1, epoch(1))
    session.connected(0.0, epoch(2))
    tls.start()
    while not net.told.of(PeerJoined):
        link.data_received(tls.take_outgoing())
        tls.receive(transport.take())
        if tls.open:
            tls.send(session.data_to_send(0.0) or b"")
    return link, transport
