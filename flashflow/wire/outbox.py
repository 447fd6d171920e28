"""What one side has to say in a session: a bounded FIFO of messages with their numbers, until they are acknowledged."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from flashflow.model.errors import PeerError
from flashflow.wire.messages import Message


@dataclass(slots=True)
class Entry:
    """One message that was not acknowledged yet."""

    ticket: int
    """Number that the application knows it by; never repeats in this process."""
    message: Message
    """The message."""
    seq: int
    """Its number in the session."""
    sends: int = field(default=0)
    """On how many connections it was sent."""
    sent_s: float = field(default=0.0)
    """Monotonic time at which it was sent on the last of them."""
    denied: bool = field(default=False)
    """The peer refused it; its number still has to be acknowledged."""


class Outbox:
    """Messages in order; sent ones stay until acknowledged, and are sent again on the next connection."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: deque[Entry] = deque()
        self._next_ticket = 1
        self._next_seq = 1
        self._sent_seq = 0
        self._unsent_from = 1

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    @property
    def full(self) -> bool:
        """Whether no more messages are taken."""
        return len(self._entries) >= self._limit

    def new_ticket(self) -> int:
        """A ticket for a message that is not taken."""
        self._next_ticket += 1
        return self._next_ticket - 1

    def add(self, message: Message) -> int:
        """Take `message` in at the end and give its ticket."""
        ticket = self.new_ticket()
        self._entries.append(Entry(ticket, message, self._next_seq))
        self._next_seq += 1
        return ticket

    def acknowledge(self, seq: int) -> list[Entry]:
        """Remove what the peer took over, up to `seq`. Raises PeerError if that was never sent."""
        if seq > self._sent_seq:
            raise PeerError(f"acknowledges message {seq}, but only {self._sent_seq} were sent")
        done = []
        while self._entries and self._entries[0].seq <= seq:
            done.append(self._entries.popleft())
        return done

    def find(self, seq: int) -> Entry | None:
        """The unacknowledged message numbered `seq`."""
        index = seq - self._entries[0].seq if self._entries else -1
        return self._entries[index] if 0 <= index < len(self._entries) else None

    def rewind(self) -> None:
        """A new connection: everything unacknowledged is to be sent on it."""
        self._unsent_from = self._entries[0].seq if self._entries else self._next_seq

    def waits_since_s(self) -> float | None:
        """When the oldest message that waits for an acknowledgement was sent on this connection; None if none does."""
        oldest = self._entries[0] if self._entries else None
        return oldest.sent_s if oldest is not None and oldest.seq < self._unsent_from else None

    def is_sent_too_often(self, received_seq: int, tries: int) -> bool:
        """Whether a message after `received_seq` was sent on so many connections already."""
        return any(entry.sends >= tries for entry in self._entries if entry.seq > received_seq)

    def take_unsent(self, now_s: float) -> list[Entry]:
        """What was not sent on this connection yet; it counts as sent from now on."""
        skip = self._unsent_from - self._entries[0].seq if self._entries else 0
        fresh = list(islice(self._entries, max(0, skip), None))
        for entry in fresh:
            entry.sends += 1
            entry.sent_s = now_s
        if fresh:
            self._sent_seq = max(self._sent_seq, fresh[-1].seq)
            self._unsent_from = fresh[-1].seq + 1
        return fresh

    def restart(self) -> list[Entry]:
        """Begin a new session with nothing in it; give what the old one did not get acknowledged."""
        left = list(self._entries)
        self._entries.clear()
        self._next_seq = self._unsent_from = 1
        self._sent_seq = 0
        return left
