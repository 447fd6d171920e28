"""One TLS connection under a wire session: feed bytes, hand events out, flush; nothing else."""

import asyncio
import contextlib
import math
import ssl
import time
from collections.abc import Callable
from typing import cast

from flashflow.model.bucket import Bucket
from flashflow.shell.mtls import TlsPipe
from flashflow.wire.events import LinkClosed, MessageReceived, SessionEvent
from flashflow.wire.session import Session

HANDSHAKE_S = 5.0
"""Longest TLS handshake."""
MAX_UNREAD_BYTES = 4 << 20
"""A peer that leaves so much unread is cut off; far above what a session keeps for one that reads."""
STALLED_S = 0.1
"""A timer that comes later than this tells that the loop stood still: what the peer sent meanwhile is read first."""
READ_BYTES = 16 << 10
"""Most that is read of one peer before the others have their turn: a TLS record."""
_LINGER_S = 2.0
"""A closing connection may take this long to send what is left, and the peer to read it."""


class SessionLink(asyncio.BufferedProtocol):
    """Joins one connection to a session for as long as it lasts; a session outlives its links.

    A buffered protocol, since others are given all that came at once: thousands of messages of a peer that floods us.
    """

    def __init__(
        self,
        tls: TlsPipe,
        on_made: Callable[["SessionLink"], None],
        on_event: Callable[["SessionLink", SessionEvent], None],
        on_lost: Callable[["SessionLink", str | None, BaseException | None], None],
        first: bytes = b"",
    ) -> None:
        """`on_made`, after the handshake, attaches the session; `on_lost` gets its complaint and the error.

        `first`: what was read from the connection already.
        """
        self.tls = tls
        """TLS of this connection."""
        self.host = "?"
        """The peer's address."""
        self.close_reason: str | None = None
        """Why we closed the connection, if we did."""
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the handshake is, one way or the other."""
        self._on_made = on_made
        self._on_event = on_event
        self._on_lost = on_lost
        self._first = first
        self._buffer = bytearray(READ_BYTES)
        self._allowance: Bucket | None = None
        self._resumption: asyncio.TimerHandle | None = None
        self._session: Session | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due_s = math.inf
        self._waited = False
        self._transport: asyncio.Transport | None = None
        self._error: BaseException | None = None

    @property
    def closing(self) -> bool:
        """Nothing more is sent or taken."""
        ended = self._error is not None or self.close_reason is not None
        return ended or self._transport is None or self._transport.is_closing()

    def attach(self, session: Session, allowance: Bucket | None = None) -> None:
        """Run `session`, which was told of the connection, over this link.

        `allowance` is the bytes that may be read of the peer: when they are used up, it has to wait.
        """
        self._session = session
        self._allowance = allowance
        self.pump()

    def detach(self) -> None:
        """Another connection has the session now: drop this one."""
        self._session = None
        self.abort()

    def close(self, reason: str) -> None:
        """Say that we close, then close."""
        if not self.closing:
            self.close_reason = reason
            self.tls.say_closed()
            self._flush()
            self._linger()

    def abort(self) -> None:
        """Close without waiting."""
        self._disarm()
        if self._transport is not None:
            self._transport.abort()

    def pump(self) -> None:
        """Write what the session has to say and arm its timer."""
        if self._session is None or self._transport is None or self.closing:
            return
        data = self._session.data_to_send(time.monotonic())
        if data:
            self.tls.send(data)
            self._flush()
        self._arm_for(self._session)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is up: begin the handshake."""
        self._transport = cast(asyncio.Transport, transport)
        self.host = str((transport.get_extra_info("peername") or ["?"])[0])
        self._arm(HANDSHAKE_S, self._handshake_late)
        self.tls.start()
        self._flush()
        if self._first:
            self.data_received(self._first)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Where to put what comes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So much came."""
        self.data_received(bytes(memoryview(self._buffer)[:nbytes]))
        delay_s = self._not_allowed_s(nbytes)
        transport = self._transport
        if transport is not None and not transport.is_closing() and (delay_s > 0 or nbytes == READ_BYTES):
            transport.pause_reading()  # else uvloop reads on, 32 times, before it looks at others
            self._resumption = asyncio.get_running_loop().call_later(delay_s, self._resume_reading)

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer."""
        if self.closing:
            return
        self._waited = False
        was_open = self.tls.open
        try:
            plaintext = self.tls.receive(data)
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._flush()
        if self.tls.open and not was_open:
            self._settle()
            self._on_made(self)
        session = self._session
        if session is not None and plaintext:
            self._dispatch(session, session.receive(plaintext, time.monotonic()))
        if self.tls.closed:
            self.close("closed by the other side")

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._disarm()
        if self._resumption is not None:
            self._resumption.cancel()
        self._transport = None
        self._settle()
        session, self._session = self._session, None
        complaint = session.disconnected() if session is not None else None
        self._on_lost(self, complaint, self._error or error)

    def _not_allowed_s(self, read_bytes: int) -> float:
        if self._allowance is None:
            return 0.0
        now_s = time.monotonic()
        self._allowance.take(read_bytes)
        return 0.0 if self._allowance.whole(now_s) > 0 else self._allowance.next_s() - now_s

    def _resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _fail(self, error: ssl.SSLError) -> None:
        self._error = error
        self._flush()  # the alert that tells the peer why
        self._settle()
        self._linger()

    def _linger(self) -> None:
        """End our direction; the connection goes when the peer has read that, or after a while."""
        transport = self._transport
        if transport is not None and not transport.is_closing() and transport.can_write_eof():
            with contextlib.suppress(OSError):  # the peer is gone already
                transport.write_eof()
        self._arm(_LINGER_S, self.abort)

    def _settle(self) -> None:
        if not self.settled.done():
            self.settled.set_result(None)

    def _handshake_late(self) -> None:
        self.close_reason = "no TLS handshake in time"
        self.abort()

    def _arm_for(self, session: Session) -> None:
        when = session.next_timer()
        if when is not None and not self.closing:
            self._due_s = when
            self._arm(max(0.0, when - time.monotonic()), self._time_passed)
        elif not self.closing:
            self._disarm()

    def _time_passed(self) -> None:
        if not self._waited and time.monotonic() > self._due_s + STALLED_S:
            self._waited = True
            self._arm(STALLED_S, self._time_passed)
        elif self._session is not None:
            self._dispatch(self._session, self._session.handle_timer(time.monotonic()))

    def _dispatch(self, session: Session, events: list[SessionEvent]) -> None:
        for event in events:
            if self._session is not session:
                return
            self._on_event(self, event)
            if isinstance(event, MessageReceived):
                session.take_over(event.seq)
        self.pump()
        for event in events:
            if isinstance(event, LinkClosed):
                self.close(event.reason)

    def _flush(self) -> None:
        data = self.tls.take_outgoing()
        if data and self._transport is not None:
            self._transport.write(data)
            if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
                self.close_reason = "it does not read what it is sent"
                self.abort()

    def _arm(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(delay_s, callback)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
