"""The session between coordinator and one measurer: sans-I/O, survives its connections.

A session is named by two random epochs, one of each side. Messages are numbered 1, 2, 3 … in each direction; each is
kept until the peer acknowledges that it took it over, is sent again on the next connection, and a number that was
delivered before is not delivered again: at most once and in order within a session, exactly once while the peer comes
back to it. TCP repeats what the network loses, so a message that stays unacknowledged on a connection that is up
(`ack_s`) tells that something is wrong with the connection or the peer: a new connection is made and the message sent
again, on `tries` connections at most; then the session is given up, and a new one begins. The measurer opens a connection with Hello, which names the session it wants to resume; the coordinator
answers with Welcome, whose epoch tells whether it still knows that session.

Use: `connected` -> `receive`/`send`/`handle_timer`, each followed by `data_to_send` -> `disconnected`; `abandon` ends
the session. Nothing that is received raises: it is denied, and a LinkClosed event says that the connection must end.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from flashflow.model.errors import PeerError
from flashflow.wire.events import (
    Delivered,
    LinkClosed,
    MessageDenied,
    MessageReceived,
    NotDelivered,
    Opened,
    SessionEvent,
)
from flashflow.wire.framing import FrameReader, encode_frame
from flashflow.wire.messages import (
    MAX_REASON_CHARS,
    PROTOCOL_VERSION,
    Data,
    Denial,
    Envelope,
    Heartbeat,
    Hello,
    Message,
    Welcome,
    encode_envelope,
    one_line,
    parse_envelope,
    parse_message,
)
from flashflow.wire.outbox import Entry, Outbox
from flashflow.wire.rules import (
    LEGAL_ENVELOPES,
    LEGAL_MESSAGES,
    Phase,
    Role,
    SessionFigures,
    SessionLimits,
)


class Session:
    """One side of a session with one peer."""

    def __init__(
        self, role: Role, name: str, capacity_bytes: int, epoch: str, limits: SessionLimits | None = None
    ) -> None:
        """`epoch`: 32 random hex digits. `capacity_bytes`: of a measurer; the coordinator gives 0."""
        self._role = role
        self._name = name
        self._capacity_bytes = capacity_bytes
        self._limits = limits or SessionLimits()
        self._epoch = epoch
        self._spare_epoch = epoch
        self._peer_epoch: str | None = None
        self._peer_name: str | None = None
        self._phase = Phase.DOWN
        self._reader = FrameReader()
        self._outbox = Outbox(self._limits.buffer_messages)
        self._delivered_seq = 0
        self._taken_seq = 0
        self._denied: set[int] = set()
        self._ack_due = False
        self._out = bytearray()
        self._notices: list[SessionEvent] = []
        self._heard_s = 0.0
        self._said_s = 0.0
        self._given_up = False
        self._counts: Counter[type | str] = Counter()
        self._handlers: dict[type, Callable[[Any], list[SessionEvent]]] = {
            Hello: self._got_hello,
            Welcome: self._got_welcome,
            Data: self._got_data,
            Heartbeat: self._got_heartbeat,
            Denial: self._got_denial,
        }

    @property
    def phase(self) -> Phase:
        """Of the present connection."""
        return self._phase

    @property
    def heard_s(self) -> float:
        """Monotonic time at which the peer was last heard."""
        return self._heard_s

    @property
    def pending(self) -> int:
        """Messages not acknowledged yet."""
        return len(self._outbox)

    @property
    def owed(self) -> int:
        """Those of them that are about a measurement."""
        return sum(getattr(entry.message, "meas_id", None) is not None for entry in self._outbox)

    def pending_of(self, meas_id: int) -> int:
        """Messages about a measurement that are not acknowledged yet."""
        return sum(getattr(entry.message, "meas_id", None) == meas_id for entry in self._outbox)

    def figures(self, now_s: float) -> SessionFigures:
        """What it did so far."""
        since_s = self._outbox.waits_since_s()
        counts = self._counts
        return SessionFigures(
            phase=self._phase.name.lower(),
            connections=counts[Opened],
            pending=self.pending,
            waits_s=0.0 if since_s is None or self._phase is not Phase.OPEN else now_s - since_s,
            delivered=counts[Delivered],
            resent=counts["resent"],
            not_delivered=counts[NotDelivered],
            received=counts[MessageReceived],
            repeated=counts["repeated"],
            denied=counts[MessageDenied],
        )

    def connected(self, now_s: float, spare_epoch: str, peer_name: str | None = None) -> None:
        """A new connection replaces the old one, if any.

        `spare_epoch` (32 random hex digits) names this side's next session, if a new one has to begin;
        `peer_name` is the name in the peer's certificate, which its greeting must repeat.
        """
        self._phase = Phase.GREETING
        self._reader = FrameReader()
        self._out.clear()
        self._ack_due = False
        self._spare_epoch = spare_epoch
        if self._given_up:
            self._epoch, self._given_up = spare_epoch, False
        self._peer_name = peer_name
        self._heard_s = self._said_s = now_s
        if self._role is Role.MEASURER:
            self._put(
                Hello(
                    version=PROTOCOL_VERSION,
                    name=self._name,
                    capacity_bytes=self._capacity_bytes,
                    epoch=self._epoch,
                    peer_epoch=self._peer_epoch,
                    received=self._taken_seq,
                )
            )

    def disconnected(self) -> str | None:
        """The connection is gone. Gives a complaint if it ended within a frame."""
        pending = self._reader.pending_bytes
        complain = pending > 0 and self._phase in (Phase.GREETING, Phase.OPEN)
        self._phase = Phase.DOWN
        self._reader = FrameReader()
        self._out.clear()
        return f"connection ended within a frame ({pending} bytes of it came)" if complain else None

    def abandon(self, reason: str) -> list[SessionEvent]:
        """Give the session up: the peer did not come back. What it did not acknowledge is not delivered."""
        return self._counted(self._give_up(reason))

    def send(self, message: Message) -> int:
        """Queue `message` and give its ticket. A full buffer refuses it, with a NotDelivered among the next events."""
        if self._outbox.full:
            ticket = self._outbox.new_ticket()
            self._notices.append(
                NotDelivered(
                    ticket, message, certain=True, reason=f"{len(self._outbox)} messages wait already"
                )
            )
            return ticket
        return self._outbox.add(message)

    def take_over(self, seq: int) -> None:
        """The message numbered `seq`, and all before it, were acted on: they may be acknowledged."""
        self._taken_seq = max(self._taken_seq, min(seq, self._delivered_seq))
        while self._taken_seq + 1 in self._denied:
            self._taken_seq += 1
            self._denied.discard(self._taken_seq)
        self._ack_due = True

    def receive(self, data: bytes, now_s: float) -> list[SessionEvent]:
        """Bytes of the peer, in any portions -> events. Never raises for what they hold."""
        if self._phase not in (Phase.GREETING, Phase.OPEN):
            return []
        events = self._take_notices()
        self._reader.feed(data)
        try:
            while (body := self._next_body()) is not None:
                self._heard_s = now_s
                events += self._got_envelope(parse_envelope(body))
        except PeerError as error:
            events += self._deny_and_close(error.reason)
        return self._counted(events)

    def next_timer(self) -> float | None:
        """Monotonic time at which handle_timer is wanted."""
        if self._phase is Phase.GREETING:
            return self._heard_s + self._limits.greeting_s
        if self._phase is Phase.OPEN:
            return min(self._said_s + self._limits.heartbeat_s, self._silence_ends_s(), self._ack_ends_s())
        return None

    def handle_timer(self, now_s: float) -> list[SessionEvent]:
        """Time passed: heartbeats are due, or the peer was silent, or left a message unacknowledged, too long."""
        events = self._counted(self._take_notices())
        if self._phase is Phase.GREETING and now_s >= self._heard_s + self._limits.greeting_s:
            return events + self._deny_and_close("no greeting in time", by_peer=False)
        if self._phase is Phase.OPEN and now_s >= self._silence_ends_s():
            return events + self._close(f"no heartbeat for {now_s - self._heard_s:.1f} s", by_peer=False)
        if self._phase is Phase.OPEN and now_s >= self._ack_ends_s():
            return events + self._close(f"no acknowledgement for {self._limits.ack_s:g} s", by_peer=False)
        if self._phase is Phase.OPEN and now_s >= self._said_s + self._limits.heartbeat_s:
            self._ack_due = True
        return events

    def data_to_send(self, now_s: float) -> bytes:
        """Bytes to write to the connection now."""
        if self._phase is Phase.OPEN:
            for entry in self._outbox.take_unsent(now_s):
                self._counts["resent"] += entry.sends > 1
                fields = entry.message.model_dump(mode="json")
                self._put(Data(seq=entry.seq, ack=self._taken_seq, message=fields))
                self._ack_due = False
            if self._ack_due:
                self._put(Heartbeat(ack=self._taken_seq))
                self._ack_due = False
        if self._out:
            self._said_s = now_s
        data = bytes(self._out)
        self._out.clear()
        return data

    def _silence_ends_s(self) -> float:
        return self._heard_s + (self._limits.missed + 0.5) * self._limits.heartbeat_s

    def _ack_ends_s(self) -> float:
        since_s = self._outbox.waits_since_s()
        return math.inf if since_s is None else since_s + self._limits.ack_s

    def _counted(self, events: list[SessionEvent]) -> list[SessionEvent]:
        self._counts.update(type(event) for event in events)
        return events

    def _put(self, envelope: Envelope) -> None:
        self._out += encode_frame(encode_envelope(envelope))

    def _take_notices(self) -> list[SessionEvent]:
        notices, self._notices = self._notices, []
        return notices

    def _next_body(self) -> bytes | None:
        return self._reader.next_frame() if self._phase in (Phase.GREETING, Phase.OPEN) else None

    def _got_envelope(self, envelope: Envelope) -> list[SessionEvent]:
        if not isinstance(envelope, LEGAL_ENVELOPES[self._role, self._phase]):
            raise PeerError(f"{envelope.type} is not expected in phase {self._phase.name.lower()}")
        return self._handlers[type(envelope)](envelope)

    def _got_hello(self, hello: Hello) -> list[SessionEvent]:
        self._check_greeting(hello)
        same_peer = self._peer_epoch == hello.epoch and not self._is_hopeless(hello.received)
        resumed = same_peer and hello.peer_epoch in (self._epoch, None)
        events = self._open_session(hello, resumed)
        if not resumed:
            self._epoch = self._spare_epoch
        self._put(
            Welcome(version=PROTOCOL_VERSION, name=self._name, epoch=self._epoch, received=self._taken_seq)
        )
        return [*events, Opened(hello.name, hello.capacity_bytes, resumed)]

    def _got_welcome(self, welcome: Welcome) -> list[SessionEvent]:
        self._check_greeting(welcome)
        resumed = self._peer_epoch == welcome.epoch
        if resumed and self._is_hopeless(welcome.received):
            events = [*self._acknowledged(welcome.received), *self._give_up(self._too_often())]
            return [*events, *self._close(self._too_often(), by_peer=False)]
        events = self._open_session(welcome, resumed)
        return [*events, Opened(welcome.name, 0, resumed)]

    def _check_greeting(self, greeting: Hello | Welcome) -> None:
        if greeting.version != PROTOCOL_VERSION:
            raise PeerError(f"protocol version {greeting.version} (this side speaks {PROTOCOL_VERSION})")
        if self._peer_name is not None and greeting.name != self._peer_name:
            raise PeerError(f"greets as {greeting.name}, but its certificate says {self._peer_name}")

    def _open_session(self, greeting: Hello | Welcome, resumed: bool) -> list[SessionEvent]:
        """Go on with the session or begin a new one; either way all that is left is sent on this connection."""
        if not resumed and self._peer_epoch is not None:
            hopeless = self._peer_epoch == greeting.epoch and self._is_hopeless(greeting.received)
            events = self._restart(self._too_often() if hopeless else "the peer began a new session")
        else:
            events = self._acknowledged(greeting.received) if resumed else []
        self._peer_epoch = greeting.epoch
        self._phase = Phase.OPEN
        self._outbox.rewind()
        return events

    def _is_hopeless(self, received_seq: int) -> bool:
        """The peer comes back again and again, and still does not take a message over."""
        return self._outbox.is_sent_too_often(received_seq, self._limits.tries)

    def _too_often(self) -> str:
        return f"sent on {self._limits.tries} connections, never acknowledged"

    def _give_up(self, reason: str) -> list[SessionEvent]:
        self._peer_epoch = None
        self._given_up = self._role is Role.MEASURER  # a measurer's hello with its old epoch would resume it
        return self._restart(reason)

    def _restart(self, reason: str) -> list[SessionEvent]:
        self._delivered_seq = self._taken_seq = 0
        self._denied.clear()
        self._ack_due = False
        left = [entry for entry in self._outbox.restart() if not entry.denied]
        return [*self._take_notices(), *(_lost(entry, reason) for entry in left)]

    def _got_data(self, data: Data) -> list[SessionEvent]:
        events = self._acknowledged(data.ack)
        if data.seq <= self._delivered_seq:  # sent again because our acknowledgement was lost
            self._ack_due = True
            self._counts["repeated"] += 1
            return events
        if data.seq != self._delivered_seq + 1:
            raise PeerError(f"message {data.seq} after {self._delivered_seq}")
        self._delivered_seq = data.seq
        try:
            message = parse_message(data.message)
            if not isinstance(message, LEGAL_MESSAGES[self._role]):
                raise PeerError(f"{message.type} is not for this side to receive")
        except PeerError as error:
            return [*events, self._deny_message(data.seq, error.reason)]
        return [*events, MessageReceived(data.seq, message)]

    def _deny_message(self, seq: int, reason: str) -> MessageDenied:
        self._put(Denial(seq=seq, reason=reason))
        self._denied.add(seq)
        self.take_over(self._taken_seq)  # it needs no one to act on it
        return MessageDenied(seq, reason)

    def _got_heartbeat(self, heartbeat: Heartbeat) -> list[SessionEvent]:
        return self._acknowledged(heartbeat.ack)

    def _got_denial(self, denial: Denial) -> list[SessionEvent]:
        if denial.seq is None:
            return self._close(f"denied: {denial.reason}"[:MAX_REASON_CHARS], by_peer=True)
        entry = self._outbox.find(denial.seq)
        if entry is None or entry.denied:
            return []
        entry.denied = True
        reason = f"denied: {denial.reason}"
        return [NotDelivered(entry.ticket, entry.message, certain=True, reason=reason)]

    def _acknowledged(self, seq: int) -> list[SessionEvent]:
        return [Delivered(entry.ticket) for entry in self._outbox.acknowledge(seq) if not entry.denied]

    def _deny_and_close(self, reason: str, *, by_peer: bool = True) -> list[SessionEvent]:
        self._put(Denial(seq=None, reason=one_line(reason)))
        return self._close(reason, by_peer=by_peer)

    def _close(self, reason: str, *, by_peer: bool) -> list[SessionEvent]:
        self._phase = Phase.CLOSING
        return [LinkClosed(one_line(reason), by_peer)]


def _lost(entry: Entry, reason: str) -> NotDelivered:
    return NotDelivered(entry.ticket, entry.message, entry.sends == 0, reason)
