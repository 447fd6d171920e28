"""The measurer's side of the wire: one session with the coordinator, kept up over its connections."""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flashflow.model.ids import Address
from flashflow.shell.mtls import TlsPipe, explain
from flashflow.shell.sessionlink import SessionLink
from flashflow.shell.trust import ClientTrust
from flashflow.wire.events import (
    Delivered,
    MessageDenied,
    MessageReceived,
    NotDelivered,
    Opened,
    SessionEvent,
)
from flashflow.wire.knock import NONCE_BYTES, knock
from flashflow.wire.messages import Message
from flashflow.wire.rules import RESUME_S, Role, SessionLimits
from flashflow.wire.session import Session

log = logging.getLogger(__name__)

CONNECT_S = 5.0
FIRST_BACKOFF_S = 1.0
LAST_BACKOFF_S = 32.0


@dataclass(frozen=True, slots=True)
class Connected:
    """The session with the coordinator is live."""

    host: str
    """The coordinator's address."""
    resumed: bool
    """The session goes on; else the coordinator knows nothing of what was before."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection of a live session is gone; it is being made again."""

    reason: str
    """One line."""
    heard_mono_s: float
    """When the coordinator was last heard, monotonic seconds."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """An attempt to connect failed."""

    reason: str
    """One line: what and what to do."""
    retry_s: float
    """The next attempt comes after this long."""


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """The coordinator said something; valid in form and of a type that it may send."""

    message: Message
    """What it said."""


class SessionClient:
    """Keeps a session with the coordinator; everything it has to tell goes to `on_event`, on the loop."""

    def __init__(
        self,
        *,
        key_file: Path,
        coord_cert: Path,
        coord_addr: Address,
        capacity_bytes: int,
        on_event: Callable[[object], None],
        limits: SessionLimits | None = None,
        first_backoff_s: float = FIRST_BACKOFF_S,
        last_backoff_s: float = LAST_BACKOFF_S,
    ) -> None:
        """Reads the certificates; the measurer's name is its certificate's. Raises LocalError."""
        self._trust = ClientTrust(key_file, coord_cert)
        self._addr = coord_addr
        self._on_event = on_event
        self._first_backoff_s = first_backoff_s
        self._last_backoff_s = last_backoff_s
        self._backoff_s = first_backoff_s
        self._hurry_until_s = 0.0
        self._session = Session(
            Role.MEASURER, self._trust.own.name, capacity_bytes, secrets.token_hex(16), limits
        )
        self._link: SessionLink | None = None
        self._live = False
        self._ended: asyncio.Future[str] | None = None
        self._delivered: asyncio.Future[None] | None = None

    @property
    def name(self) -> str:
        """The certificate's name."""
        return self._trust.own.name

    @property
    def live(self) -> bool:
        """Whether the session has a connection now."""
        return self._live

    @property
    def pending(self) -> int:
        """Messages that the coordinator has not acknowledged yet."""
        return self._session.pending

    def send(self, message: Message) -> None:
        """Queue `message`; it is sent now or on the next connection."""
        self._session.send(message)
        if self._link is not None:
            self._link.pump()

    async def run(self) -> None:
        """Connect, and connect again whenever the connection ends; until cancelled."""
        try:
            while True:
                reason = await self._one_connection()
                if self._live:
                    self._hurry_until_s = time.monotonic() + RESUME_S
                delay = self._next_delay()
                if self._live:
                    self._live = False
                    self._on_event(Disconnected(reason, self._session.heard_s))
                else:
                    self._on_event(Unreachable(f"coordinator {self._addr}: {reason}", delay))
                await asyncio.sleep(delay)
        finally:
            self.close()

    async def wait_delivered(self, timeout_s: float) -> None:
        """Wait until the coordinator has taken everything over, on whatever connection, or time is up.

        What is about no measurement is waited for only while there is a connection: to a later one it is no news.
        """
        if not self._all_delivered():
            self._delivered = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._delivered], timeout=timeout_s)

    def close(self) -> None:
        """End the connection after what is queued was written."""
        if self._link is not None:
            self._link.pump()
            self._link.close("measurer ends")

    def _next_delay(self) -> float:
        """Ever longer, but not while the session can still be resumed."""
        delay = self._backoff_s * random.uniform(0.5, 1.0)  # so that measurers do not come back all at once
        if time.monotonic() >= self._hurry_until_s:
            self._backoff_s = min(self._backoff_s * 2, self._last_backoff_s)
        return delay

    async def _one_connection(self) -> str:
        """Make a connection and wait for its end; gives the reason."""
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._trust.refresh()
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(self._new_link, self._addr.host, self._addr.port)
        except OSError as error:
            return self._explain(error)
        return await self._ended

    def _new_link(self) -> SessionLink:
        own, coordinator = self._trust.own.fingerprint, self._trust.coordinator.fingerprint
        name = knock(own, coordinator, secrets.token_bytes(NONCE_BYTES))
        tls = TlsPipe(self._trust.context, server_side=False, server_name=name)
        return SessionLink(tls, self._link_made, self._link_event, self._link_lost)

    def _explain(self, error: BaseException | None) -> str:
        return explain(error, self._trust.own.file, self._trust.coordinator.file)

    def _link_made(self, link: SessionLink) -> None:
        self._link = link
        coordinator = self._trust.coordinator
        if link.tls.peer_fingerprint() != coordinator.fingerprint:
            link.close_reason = f"its certificate is not the one in {coordinator.file}"
            link.abort()
            return
        self._session.connected(time.monotonic(), secrets.token_hex(16), coordinator.name)
        link.attach(self._session)

    def _link_event(self, link: SessionLink, event: SessionEvent) -> None:
        if isinstance(event, MessageReceived):
            self._on_event(ServerMessage(event.message))
        elif isinstance(event, Opened):
            self._live = True
            self._backoff_s = self._first_backoff_s
            self._on_event(Connected(link.host, event.resumed))
        elif isinstance(event, NotDelivered):
            log.warning("%s not delivered: %s", event.message.type, event.reason)
        elif isinstance(event, MessageDenied):
            log.warning("refused a message of the coordinator: %s", event.reason)
        if isinstance(event, Delivered | NotDelivered):
            self._settle_delivered()

    def _link_lost(self, link: SessionLink, complaint: str | None, error: BaseException | None) -> None:
        if self._link is link:
            self._link = None
            self._settle_delivered()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(link.close_reason or complaint or self._explain(error))

    def _all_delivered(self) -> bool:
        return not (self._session.pending if self._link is not None else self._session.owed)

    def _settle_delivered(self) -> None:
        if self._delivered is not None and not self._delivered.done() and self._all_delivered():
            self._delivered.set_result(None)
