"""The coordinator's side of the wire: a listener whose peers are named by their certificates.

Connections are accepted here and not by the loop's server, so that a stranger's failed handshake is an event with a
reason, costs a bounded slot for a bounded time, and never reaches the loop's exception handler.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from flashflow.keys import PeerIdentity, load_own, load_peer_certs
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address
from flashflow.shell.mtls import TlsPipe, explain, server_context
from flashflow.shell.sessionlink import SessionLink
from flashflow.shell.tasks import TaskGroupOfNamed
from flashflow.wire.events import (
    LinkClosed,
    MessageDenied,
    MessageReceived,
    NotDelivered,
    Opened,
    SessionEvent,
)
from flashflow.wire.messages import Message
from flashflow.wire.session import Role, Session, SessionLimits

log = logging.getLogger(__name__)

MAX_HANDSHAKES = 64
"""Connections that may be in their TLS handshake at once; more wait in the kernel's queue."""
_BACKLOG = 128
_ACCEPT_PAUSE_S = 0.5


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
    link: SessionLink | None = None
    joined: bool = False
    lost_reason: str = ""
    gone_timer: asyncio.TimerHandle | None = None


class SessionServer:
    """Listens for measurers; everything it has to tell goes to `on_event`, on the loop."""

    def __init__(
        self,
        *,
        key_file: Path,
        peers_dir: Path,
        on_event: Callable[[object], None],
        on_undelivered: Callable[[str, NotDelivered], None] | None = None,
        resume_s: float = 5.0,
        limits: SessionLimits | None = None,
    ) -> None:
        """Reads the certificates. `on_undelivered` hears of messages that a peer did not take over.

        Raises LocalError for a key or certificate file that cannot be used.
        """
        self._own = load_own(key_file, datetime.now(UTC))
        self._peers_dir = peers_dir
        trusted = load_peer_certs(peers_dir, self._own)
        self._trusted = {peer.fingerprint: peer for peer in trusted.values()}
        self._context = server_context(self._own, trusted.values())
        self._on_event = on_event
        self._on_undelivered = on_undelivered or self._log_undelivered
        self._resume_s = resume_s
        self._limits = limits
        self._peers: dict[str, _Peer] = {}
        self._links: set[SessionLink] = set()
        self._listeners: list[socket.socket] = []
        self._tasks = TaskGroupOfNamed(self._bug)
        self._slots = asyncio.Semaphore(MAX_HANDSHAKES)

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
        for listener in self._listeners:
            self._tasks.start(f"accept-{addr}", self._accept(listener))
        host, port = self._listeners[0].getsockname()[:2]
        return Address(host, port)

    def send(self, name: str, message: Message) -> None:
        """Queue `message` for a measurer that has joined; one that is unknown or gone leaves it undelivered."""
        peer = self._peers.get(name)
        if peer is None or not peer.joined:
            self._on_undelivered(name, NotDelivered(0, message, certain=True, reason="not connected"))
            return
        peer.session.send(message)
        if peer.link is not None:
            peer.link.pump()

    async def close(self) -> None:
        """Stop listening and end all connections, after what is queued was written."""
        await self._tasks.cancel_all()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for peer in self._peers.values():
            if peer.gone_timer is not None:
                peer.gone_timer.cancel()
        for link in list(self._links):
            link.pump()
            link.close("coordinator ends")
        await asyncio.sleep(0)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            try:
                connection, where = await loop.sock_accept(listener)
            except OSError as error:  # of the stranger (ECONNABORTED), or too many open files
                self._slots.release()
                log.warning("cannot accept a connection: %s", error.strerror)
                await asyncio.sleep(_ACCEPT_PAUSE_S if error.errno != errno.ECONNABORTED else 0)
            except asyncio.CancelledError:
                self._slots.release()
                raise
            else:
                self._tasks.start(f"welcome-{where[0]}", self._welcome(connection))

    async def _welcome(self, connection: socket.socket) -> None:
        link = SessionLink(
            TlsPipe(self._context, server_side=True), self._link_made, self._link_event, self._link_lost
        )
        self._links.add(link)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: link, connection)
            await link.settled
        except OSError as error:  # gone before it was ours
            self._links.discard(link)
            log.debug("connection lost at once: %s", error)
        finally:
            self._slots.release()

    def _link_made(self, link: SessionLink) -> None:
        identity = self._trusted.get(link.tls.peer_fingerprint() or "")
        if identity is None:
            self._refuse(link.host, f"its certificate is none of those in {self._peers_dir}")
            link.abort()
            return
        peer = self._peers.get(identity.name)
        if peer is None:
            session = Session(Role.COORDINATOR, self._own.name, 0, secrets.token_hex(16), self._limits)
            peer = self._peers[identity.name] = _Peer(identity, session)
        old, peer.link = peer.link, link
        if old is not None:
            old.detach()
        peer.session.connected(time.monotonic(), secrets.token_hex(16), identity.name)
        link.attach(peer.session)

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
                self._refuse(link.host, link.close_reason or explain(error, self._own.file, self._peers_dir))
            return
        peer.link = None
        if complaint is not None:
            self._refuse(link.host, f"{peer.identity.name}: {complaint}")
        reason = link.close_reason or complaint or explain(error, self._own.file, self._peers_dir)
        peer.lost_reason = reason
        if peer.joined and peer.gone_timer is None and self._listeners:
            log.info("measurer %s lost: %s", peer.identity.name, reason)
            loop = asyncio.get_running_loop()
            peer.gone_timer = loop.call_later(self._resume_s, self._gone, peer)

    def _gone(self, peer: _Peer) -> None:
        peer.gone_timer = None
        peer.joined = False
        if peer.link is not None:  # it connected, but has not greeted us
            peer.link.detach()
            peer.link = None
        for event in peer.session.abandon(peer.lost_reason):
            if isinstance(event, NotDelivered):
                self._on_undelivered(peer.identity.name, event)
        self._on_event(PeerGone(peer.identity.name, peer.lost_reason))

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
