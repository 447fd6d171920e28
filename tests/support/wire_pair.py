"""Two sessions joined without sockets, on a clock of their own."""

from dataclasses import dataclass, field

from flashflow.model.errors import ErrorKind
from flashflow.wire.events import MessageReceived, SessionEvent
from flashflow.wire.messages import BwReport, ConnectToRelay, Failure, Go, Message
from flashflow.wire.rules import Role, SessionLimits
from flashflow.wire.session import Session

KEY = "A" * 43 + "="
TOKEN = "00112233445566778899aabbccddeeff"


def epoch(number: int) -> str:
    """An epoch that a test can name."""
    return f"{number:032x}"


def order(meas_id: int = 1, **changes: object) -> ConnectToRelay:
    """A ConnectToRelay that is legal in every field."""
    fields: dict[str, object] = {
        "meas_id": meas_id,
        "fp": "AB" * 20,
        "n_circs": 4,
        "dur_s": 10,
        "warmup_s": 2,
        "rate_bytes": 1_000_000,
        "mode": "echo",
        "relay_addr": "192.0.2.7:9001",
        "ed25519": KEY,
        "ntor": KEY,
        "token": TOKEN,
    }
    return ConnectToRelay.model_validate(fields | changes)


def report(second: int, meas_id: int = 1) -> BwReport:
    """One second's report."""
    return BwReport(meas_id=meas_id, second=second, sent_bytes=10 * second, recv_bytes=9 * second)


def go(meas_id: int = 1) -> Go:
    """A Go."""
    return Go(meas_id=meas_id)


def failure(meas_id: int | None = 1) -> Failure:
    """A Failure."""
    return Failure(meas_id=meas_id, code="LAUNCH_CIRCS", kind=ErrorKind.NETWORK, reason="no circuits")


@dataclass
class Side:
    """One end, and everything that it told."""

    session: Session
    events: list[SessionEvent] = field(default_factory=list)

    def take(self, events: list[SessionEvent]) -> None:
        """What the shell does with events."""
        for event in events:
            self.events.append(event)
            if isinstance(event, MessageReceived):
                self.session.take_over(event.seq)

    def of(self, kind: type) -> list[SessionEvent]:
        """The events of one type."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def messages(self) -> list[Message]:
        """The messages received, in order."""
        return [event.message for event in self.events if isinstance(event, MessageReceived)]


class Pair:
    """A measurer and a coordinator."""

    def __init__(self, limits: SessionLimits | None = None) -> None:
        self.now_s = 100.0
        self.next_epoch = 10
        self.measurer = Side(Session(Role.MEASURER, "m1", 5_000_000, epoch(1), limits))
        self.coordinator = Side(Session(Role.COORDINATOR, "coord", 0, epoch(2), limits))

    def connect(self) -> None:
        """A new connection for both."""
        self.next_epoch += 2
        self.measurer.session.connected(self.now_s, epoch(self.next_epoch), "coord")
        self.coordinator.session.connected(self.now_s, epoch(self.next_epoch + 1), "m1")

    def disconnect(self) -> None:
        """The connection is gone for both; what was under way is lost."""
        self.measurer.session.disconnected()
        self.coordinator.session.disconnected()

    def move(self, sender: Side, receiver: Side, limit: int | None = None) -> int:
        """Carry what `sender` has to say, or its first `limit` bytes; gives how many were carried."""
        data = sender.session.data_to_send(self.now_s)[:limit]
        if data:
            receiver.take(receiver.session.receive(data, self.now_s))
        return len(data)

    def exchange(self) -> None:
        """Carry everything both ways until nobody has more to say."""
        while self.move(self.measurer, self.coordinator) + self.move(self.coordinator, self.measurer):
            pass

    def opened(self) -> "Pair":
        """Connected and greeted."""
        self.connect()
        self.exchange()
        return self
