"""The coordinator's side of the wire: a listener whose peers are named by their certificates.

Connections come from `flashflow/shell/acceptor.py` and not from the loop's server, so that a stranger's failed handshake
is an event with a reason, costs a bounded slot for a bounded time, and never reaches the loop's exception handler.
Each peer has a buffer and a connection of its own, so nobody waits for another one's peer.
The measurer's side is `flashflow/shell/sessionclient.py`.
"""

import asyncio
import errno
import logging
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flashflow.keys import PeerIdentity
from flashflow.model.bucket import Bucket
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address
from flashflow.shell.acceptor import AcceptLimits, Acceptor
from flashflow.shell.mtls import TlsPipe, explain
from flashflow.shell.sessionlink import SessionLink
from flashflow.shell.tasks import TaskGroupOfNamed
from flashflow.shell.trust import ServerTrust
from flashflow.wire.events import (
    Delivered,
    LinkClosed,
    MessageDenied,
    MessageReceived,
    NotDelivered,
    Opened,
    SessionEvent,
)
from flashflow.wire.knock import Doorkeeper
from flashflow.wire.messages import Message
from flashflow.wire.rules import RESUME_S, Role, SessionFigures, SessionLimits
from flashflow.wire.session import Session

log = logging.getLogger(__name__)

_BACKLOG = 1024
TRUST_CHECK_S = 2.0
"""How often the certificates' files are looked at while nobody connects."""
PEER_BURST_BYTES = 256 << 10
"""What is read of a measurer at once: twice a whole buffer of reports, which comes again after a reconnect."""
PEER_BYTES_PER_S = 64 << 10
"""What is read of a measurer after that: reports of 500 measurements, a tenth of the loop's time."""
DRAIN_S = 1.0
"""How long a peer that is watched no more may take to take over what waits for it."""


@dataclass(frozen=True, slots=True)
class PeerJoined:
    """A measurer began a new session."""

    name: str
    """Its certificate's name."""
    capacity_bytes: int
    """The most it sends, cell bytes/s."""
    host: str
    """Its address."""


@dataclass(frozen=True, slots=True)
class PeerMessage:
    """A measurer said something; valid in form and of a type that measurers may send."""

    name: str
    """Its certificate's name."""
    message: Message
    """What it said."""


@dataclass(frozen=True, slots=True)
class PeerGone:
    """A measurer's session ended: it did not come back within resume_s, or began a new one."""

    name: str
    """Its certificate's name."""
    reason: str
    """One line."""
    undelivered: tuple[NotDelivered, ...] = ()
    """What it did not take over."""


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """Something was refused, of a stranger or of a measurer; for the log."""

    host: str
    """Where it came from."""
    reason: str
    """One line."""
    what: Literal["connection", "message"] = "connection"
    """What was refused; after a refused message the connection goes on."""


@dataclass(slots=True)
class _Peer:
    identity: PeerIdentity
    session: Session
    allowance: Bucket
    link: SessionLink | None = None
    joined: bool = False
    lost_reason: str = ""
    gone_timer: asyncio.TimerHandle | None = None
    drained: asyncio.Future[None] | None = None

    def settle(self) -> None:
        """Nothing more will be taken over on this connection."""
        if self.drained is not None and not self.drained.done():
            self.drained.set_result(None)


class SessionServer:
    """Listens for measurers; everything it has to tell goes to `on_event`, on the loop."""

    def __init__(
        self,
        *,
        key_file: Path,
        peers_dir: Path,
        on_event: Callable[[object], None],
        on_undelivered: Callable[[str, NotDelivered], None] | None = None,
        resume_s: float = RESUME_S,
        limits: SessionLimits | None = None,
        accept_limits: AcceptLimits | None = None,
    ) -> None:
        """Reads the certificates. `on_undelivered` hears of messages that a peer did not take over.

        Raises LocalError for a key or certificate file that cannot be used.
        """
        self._trust = ServerTrust(key_file, peers_dir)
        self._door = Doorkeeper()
        self._on_event = on_event
        self._on_undelivered = on_undelivered or self._log_undelivered
        self._resume_s = resume_s
        self._limits = limits
        self._peers: dict[str, _Peer] = {}
        self._links: set[SessionLink] = set()
        self._listeners: list[socket.socket] = []
        self._tasks = TaskGroupOfNamed(self._bug)
        self._acceptor = Acceptor(
            who=self._who, welcome=self._welcome, refused=self._refuse, limits=accept_limits
        )

    async def start(self, addr: Address) -> Address:
        """Listen on `addr` and give it with its real port. Raises LocalError, as for a port in use."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(addr.host, addr.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise LocalError(f"cannot listen on {addr}: {error.strerror or error}") from None
        infos = found if addr.port else found[:1]
        for family, _, _, _, where in dict.fromkeys(infos):
            self._listeners.append(_listen(family, where, addr))
        self._acceptor.start(self._listeners)
        self._tasks.start("certificates", self._watch_trust())
        host, port = self._listeners[0].getsockname()[:2]
        return Address(host, port)

    def send(self, name: str, message: Message) -> None:
        """Queue `message` for a measurer that has joined; one that is unknown or gone leaves it undelivered.

        A message to ourselves is delivered at once, without a wire.
        """
        if name == self._trust.own.name:
            self._on_event(PeerMessage(name, message))
            return
        peer = self._peers.get(name)
        if peer is None or not peer.joined:
            self._on_undelivered(name, NotDelivered(0, message, certain=True, reason="not connected"))
            return
        peer.session.send(message)
        if peer.link is not None:
            peer.link.pump()

    def is_buffer_empty(self, name: str) -> bool:
        """Whether nothing waits for the measurer."""
        peer = self._peers.get(name)
        return peer is None or peer.session.pending == 0

    def pending_of(self, name: str, meas_id: int) -> int:
        """Messages about a measurement that the measurer has not taken over yet."""
        peer = self._peers.get(name)
        return 0 if peer is None else peer.session.pending_of(meas_id)

    def figures(self) -> dict[str, SessionFigures]:
        """What each measurer's session did so far, by name."""
        now_s = time.monotonic()
        return {name: peer.session.figures(now_s) for name, peer in self._peers.items()}

    async def stop_watching(self, name: str, drain_s: float = DRAIN_S) -> None:
        """Take no more messages for the measurer; once it has taken over what waits for it, or after a while, close."""
        peer = self._peers.get(name)
        if peer is None:
            return
        peer.joined = False
        if peer.gone_timer is not None:
            peer.gone_timer.cancel()
            peer.gone_timer = None
        if peer.link is not None and peer.session.pending:
            peer.drained = asyncio.get_running_loop().create_future()
            await asyncio.wait([peer.drained], timeout=drain_s)
        if peer.link is not None:
            peer.link.pump()
            peer.link.close("coordinator ends")
        for event in peer.session.abandon("coordinator ends"):
            if isinstance(event, NotDelivered):
                self._on_undelivered(name, event)

    async def close(self) -> None:
        """Stop listening; end all connections, each after its peer has taken over what waits for it."""
        await self._tasks.cancel_all()
        self._acceptor.close()
        self._listeners.clear()
        await asyncio.gather(*(self.stop_watching(name) for name in self._peers))
        for link in list(self._links):
            link.close("coordinator ends")
        await asyncio.sleep(0)

    def _who(self, server_name: str) -> str | None:
        return self._door.who(server_name, self._trust.peers, self._trust.own.fingerprint)

    def _welcome(self, connection: socket.socket, host: str, first: bytes) -> asyncio.Future[None]:
        self._refresh_trust()
        tls = TlsPipe(self._trust.context, server_side=True)
        link = SessionLink(tls, self._link_made, self._link_event, self._link_lost, first)
        self._links.add(link)
        self._tasks.start(f"welcome-{host}", self._connect(link, connection))
        return link.settled

    async def _connect(self, link: SessionLink, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: link, connection)
        except OSError as error:  # gone before it was ours
            self._links.discard(link)
            log.debug("connection lost at once: %s", error)
            if not link.settled.done():
                link.settled.set_result(None)
        except (
            asyncio.CancelledError
        ):  # we end: the loop has closed its transport, and does not tell the link
            self._links.discard(link)
            link.abort()
            raise

    async def _watch_trust(self) -> None:
        while True:
            await asyncio.sleep(TRUST_CHECK_S)
            self._refresh_trust()

    def _refresh_trust(self) -> None:
        """Whoever's certificate is not there any more is out."""
        if not self._trust.refresh():
            return
        trusted = {peer.fingerprint for peer in self._trust.peers.values()}
        names = {peer.name for peer in self._trust.peers.values()}
        for name, peer in list(self._peers.items()):
            if peer.identity.fingerprint in trusted:
                continue
            reason = f"its certificate is not in {self._trust.peers_dir} any more"
            if peer.link is not None:
                peer.link.close(reason)
            if name not in names and (peer.joined or peer.link is not None):
                peer.lost_reason = reason
                self._gone(peer)

    def _link_made(self, link: SessionLink) -> None:
        identity = self._trust.peers.get(link.tls.peer_fingerprint() or "")
        if identity is None:
            self._refuse(link.host, f"its certificate is none of those in {self._trust.peers_dir}")
            link.abort()
            return
        peer = self._peers.get(identity.name)
        if peer is None:
            session = Session(Role.COORDINATOR, self._trust.own.name, 0, secrets.token_hex(16), self._limits)
            allowance = Bucket(PEER_BURST_BYTES, PEER_BYTES_PER_S, time.monotonic())
            peer = self._peers[identity.name] = _Peer(identity, session, allowance)
        peer.identity = identity  # its certificate may have been renewed
        old, peer.link = peer.link, link
        if old is not None:
            old.detach()
        peer.session.connected(time.monotonic(), secrets.token_hex(16), identity.name)
        link.attach(peer.session, peer.allowance)

    def _peer_of(self, link: SessionLink) -> _Peer | None:
        return next((peer for peer in self._peers.values() if peer.link is link), None)

    def _link_event(self, link: SessionLink, event: SessionEvent) -> None:
        peer = self._peer_of(link)
        if peer is None:
            return
        name = peer.identity.name
        if isinstance(event, MessageReceived):
            self._on_event(PeerMessage(name, event.message))
        elif isinstance(event, Opened):
            self._opened(peer, link, event)
        elif isinstance(event, NotDelivered):
            self._on_undelivered(name, event)
        elif isinstance(event, Delivered) and not peer.session.pending:
            peer.settle()
        elif isinstance(event, MessageDenied):
            self._on_event(PeerRefused(link.host, f"{name}: {event.reason}", "message"))
        elif isinstance(event, LinkClosed) and event.by_peer:
            self._refuse(link.host, f"{name}: {event.reason}")

    def _opened(self, peer: _Peer, link: SessionLink, event: Opened) -> None:
        if peer.gone_timer is not None:
            peer.gone_timer.cancel()
            peer.gone_timer = None
        if event.resumed and peer.joined:
            log.info("measurer %s is back from %s", peer.identity.name, link.host)
            return
        if peer.joined:
            self._on_event(PeerGone(peer.identity.name, "it began a new session (was it restarted?)"))
        peer.joined = True
        self._on_event(PeerJoined(peer.identity.name, event.capacity_bytes, link.host))

    def _link_lost(self, link: SessionLink, complaint: str | None, error: BaseException | None) -> None:
        self._links.discard(link)
        peer = self._peer_of(link)
        if peer is None:
            if not link.tls.open:
                self._refuse(
                    link.host,
                    link.close_reason or explain(error, self._trust.own.file, self._trust.peers_dir),
                )
            return
        peer.link = None
        peer.settle()
        if complaint is not None:
            self._refuse(link.host, f"{peer.identity.name}: {complaint}")
        reason = link.close_reason or complaint or explain(error, self._trust.own.file, self._trust.peers_dir)
        peer.lost_reason = reason
        if peer.joined and peer.gone_timer is None and self._listeners:
            log.info("measurer %s lost: %s", peer.identity.name, reason)
            loop = asyncio.get_running_loop()
            peer.gone_timer = loop.call_later(self._resume_s, self._gone, peer)

    def _gone(self, peer: _Peer) -> None:
        if peer.gone_timer is not None:
            peer.gone_timer.cancel()
            peer.gone_timer = None
        peer.joined = False
        if peer.link is not None:  # it connected, but has not greeted us
            peer.link.detach()
            peer.link = None
        left = [event for event in peer.session.abandon(peer.lost_reason) if isinstance(event, NotDelivered)]
        for notice in left:
            self._on_undelivered(peer.identity.name, notice)
        self._on_event(PeerGone(peer.identity.name, peer.lost_reason, tuple(left)))

    def _refuse(self, host: str, reason: str) -> None:
        self._on_event(PeerRefused(host, reason))

    def _log_undelivered(self, name: str, notice: NotDelivered) -> None:
        log.warning("%s for %s not delivered: %s", notice.message.type, name, notice.reason)

    def _bug(self, error: BaseException) -> None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "bug in the session server", "exception": error}
        )


def _listen(family: int, where: tuple[object, ...], addr: Address) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.settimeout(0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        hint = " (does another coordinator run?)" if error.errno == errno.EADDRINUSE else ""
        raise LocalError(f"cannot listen on {addr}: {error.strerror}{hint}") from None
    return listener
