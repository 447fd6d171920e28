"""Two sessions joined through a channel that cuts at any byte: at most once, in order, nothing lost if it comes back."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from flashflow.wire.events import Delivered, LinkClosed, MessageReceived, NotDelivered, SessionEvent
from flashflow.wire.framing import FrameReader, encode_frame
from flashflow.wire.messages import Message
from flashflow.wire.rules import Role, SessionLimits
from flashflow.wire.session import Session
from support.wire_pair import Pair, Side, epoch, go, report

ACTIONS = st.one_of(
    st.tuples(st.just("send"), st.booleans(), st.integers(1, 5)),
    st.tuples(st.just("carry"), st.booleans(), st.integers(1, 700)),
    st.tuples(st.just("take over"), st.booleans(), st.integers(1, 5)),
    st.tuples(st.just("cut"), st.booleans(), st.just(0)),
)


class Channel(Pair):
    """Bytes wait in two pipes until carried; a side takes messages over later than it receives them."""

    def __init__(self, limits: SessionLimits | None = None) -> None:
        super().__init__(limits)
        self.sent: dict[bool, list[Message]] = {True: [], False: []}
        self.tickets: dict[bool, list[int]] = {True: [], False: []}
        self.pipes = {True: bytearray(), False: bytearray()}
        self.waiting: dict[bool, list[MessageReceived]] = {True: [], False: []}
        self.taken_over: list[Message] = []
        self.by_ticket: dict[tuple[bool, int], Message] = {}
        self.count = 0
        self.connect()

    def side(self, measurer: bool) -> Side:
        return self.measurer if measurer else self.coordinator

    def send(self, measurer: bool, number: int) -> None:
        for _ in range(number):
            self.count += 1
            message: Message = report(1, self.count) if measurer else go(self.count)
            self.sent[measurer].append(message)
            ticket = self.side(measurer).session.send(message)
            self.tickets[measurer].append(ticket)
            self.by_ticket[measurer, ticket] = message

    def carry(self, measurer: bool, number: int | None) -> None:
        """Carry `number` bytes (None: all) from one side to the other."""
        pipe = self.pipes[measurer]
        pipe += self.side(measurer).session.data_to_send(self.now_s)
        data = bytes(pipe[:number])
        del pipe[:number]
        receiver = self.side(not measurer)
        self.note(not measurer, receiver.session.receive(data, self.now_s))

    def note(self, measurer: bool, events: list[SessionEvent]) -> None:
        self.side(measurer).events.extend(events)
        self.waiting[measurer] += [event for event in events if isinstance(event, MessageReceived)]
        for event in events:
            if isinstance(event, Delivered):  # acknowledged after it was taken over, never before
                assert self.by_ticket[measurer, event.ticket] in self.taken_over

    def take_over(self, measurer: bool, number: int | None) -> None:
        ready = self.waiting[measurer][:number]
        del self.waiting[measurer][:number]
        for event in ready:
            self.taken_over.append(event.message)
            self.side(measurer).session.take_over(event.seq)

    def cut(self, measurer: bool, number: int = 0) -> None:
        """The link is lost; one side may notice before the other is connected anew."""
        if measurer:
            self.disconnect()
        self.pipes = {True: bytearray(), False: bytearray()}
        self.connect()

    def settle(self) -> None:
        """Everything is carried, and everything taken over."""
        for _ in range(6):
            for measurer in (True, False):
                self.carry(measurer, None)
                self.take_over(measurer, None)
                self.note(measurer, self.side(measurer).session.handle_timer(self.now_s))

    def run(self, actions: list[tuple[str, bool, int]]) -> None:
        steps = {"send": self.send, "carry": self.carry, "take over": self.take_over, "cut": self.cut}
        for action, measurer, number in actions:
            steps[action](measurer, number)


def outcomes(side: Side) -> Counter[int]:
    return Counter(event.ticket for event in side.events if isinstance(event, Delivered | NotDelivered))


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=60))
def test_while_the_peer_comes_back_everything_arrives_exactly_once_and_in_order(
    actions: list[tuple[str, bool, int]],
) -> None:
    channel = Channel()
    channel.run(actions)
    channel.cut(measurer=True)
    channel.settle()
    for measurer in (True, False):
        side = channel.side(measurer)
        assert channel.side(not measurer).messages == channel.sent[measurer]
        assert [event.ticket for event in side.of(Delivered)] == channel.tickets[measurer]
        assert side.of(NotDelivered) == side.of(LinkClosed) == []
        assert side.session.pending == 0


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(ACTIONS, max_size=25)), min_size=2, max_size=5))
def test_across_restarts_each_message_arrives_at_most_once_and_in_order_and_its_sender_learns_which(
    lives: list[tuple[bool, list[tuple[str, bool, int]]]],
) -> None:
    channel = Channel()
    for number, (measurer_restarts, actions) in enumerate(lives):
        channel.run(actions)
        if measurer_restarts:  # the process ends: its session, and what it has not taken over, are gone
            lost = channel.measurer.session.abandon("process ended")
            channel.measurer.events += lost
            channel.measurer.session = Session(Role.MEASURER, "m1", 1, epoch(1000 + number))
            channel.waiting[True].clear()
            channel.tickets[True] = []
        else:
            channel.coordinator.events += channel.coordinator.session.abandon("it did not come back")
            channel.waiting[False].clear()
        channel.cut(measurer=True)
    channel.settle()
    for measurer in (True, False):
        received = channel.side(not measurer).messages
        positions = [channel.sent[measurer].index(message) for message in received]
        assert positions == sorted(set(positions))
        assert channel.side(measurer).of(LinkClosed) == []
        certain = {
            message.message.meas_id for message in channel.side(measurer).of(NotDelivered) if message.certain
        }
        assert not certain & {message.meas_id for message in received}
    counts = outcomes(channel.coordinator)
    assert counts == dict.fromkeys(channel.tickets[False], 1)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_no_bytes_of_a_peer_ever_raise(data: bytes, measurer: bool, opened: bool) -> None:
    pair = Pair()
    pair.connect()
    if opened:
        pair.exchange()
    session = (pair.measurer if measurer else pair.coordinator).session
    for event in session.receive(data, pair.now_s):
        assert isinstance(event, LinkClosed)
        assert "\n" not in event.reason
    session.data_to_send(pair.now_s)


FAULTS = st.one_of(
    ACTIONS,
    st.tuples(st.just("lose"), st.booleans(), st.integers(0, 3)),
    st.tuples(st.just("swap"), st.booleans(), st.integers(0, 3)),
    st.tuples(st.just("double"), st.booleans(), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.booleans(), st.integers(1, 8)),
)
PATIENT = SessionLimits(tries=10_000)
"""A message may be lost as often as a test likes."""


class Lossy(Channel):
    """Whole frames are lost, change places or come twice; a side that closes is connected anew."""

    def __init__(self, limits: SessionLimits | None = None) -> None:
        self.frames: dict[bool, list[bytes]] = {True: [], False: []}
        super().__init__(limits)

    def collect(self, measurer: bool) -> list[bytes]:
        reader = FrameReader()
        reader.feed(self.side(measurer).session.data_to_send(self.now_s))
        waiting = self.frames[measurer]
        while (body := reader.next_frame()) is not None:
            waiting.append(encode_frame(body))
        return waiting

    def carry(self, measurer: bool, number: int | None) -> None:
        """So many frames, 100 bytes of `number` being one; None: all."""
        waiting = self.collect(measurer)
        count = len(waiting) if number is None else 1 + number // 100
        data = b"".join(waiting[:count])
        del waiting[:count]
        if data:
            self.note(not measurer, self.side(not measurer).session.receive(data, self.now_s))

    def note(self, measurer: bool, events: list[SessionEvent]) -> None:
        super().note(measurer, events)
        if any(isinstance(event, LinkClosed) for event in events):
            self.cut(measurer=True)

    def cut(self, measurer: bool, number: int = 0) -> None:
        self.frames = {True: [], False: []}
        super().cut(measurer, number)

    def lose(self, measurer: bool, number: int) -> None:
        del self.collect(measurer)[number : number + 1]

    def swap(self, measurer: bool, number: int) -> None:
        frames = self.collect(measurer)
        frames[number : number + 2] = reversed(frames[number : number + 2])

    def double(self, measurer: bool, number: int) -> None:
        frames = self.collect(measurer)
        frames[number:number] = frames[number : number + 1]

    def wait(self, measurer: bool, number: int) -> None:
        self.now_s += number
        for side in (True, False):
            self.note(side, self.side(side).session.handle_timer(self.now_s))

    def run(self, actions: list[tuple[str, bool, int]]) -> None:
        for action, measurer, number in actions:
            if action == "take over":
                self.take_over(measurer, number)
            else:
                getattr(self, action)(measurer, number)

    def settle(self) -> None:
        """Both come back until all is said; a greeting that was lost takes its time."""
        for _ in range(12):
            super().settle()
            self.wait(measurer=True, number=1)


def complaints(channel: Lossy) -> list[str]:
    """What must not be, whatever the channel did."""
    found = []
    for measurer in (True, False):
        received = channel.side(not measurer).messages
        positions = [channel.sent[measurer].index(message) for message in received]
        if positions != sorted(set(positions)):
            found.append("a message came twice, or out of order")
        counts = outcomes(channel.side(measurer))
        if set(counts) - set(channel.tickets[measurer]) or any(count > 1 for count in counts.values()):
            found.append("a sender was told twice")
        for event in channel.side(measurer).of(NotDelivered):
            if event.certain and event.message in received:
                found.append("a message that was acted on is said not to be delivered")
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(FAULTS, max_size=60))
def test_a_channel_that_loses_doubles_and_swaps_frames_costs_nothing_while_the_peer_comes_back(
    actions: list[tuple[str, bool, int]],
) -> None:
    channel = Lossy(PATIENT)
    channel.run(actions)
    channel.cut(measurer=True)
    channel.settle()
    assert complaints(channel) == []
    for measurer in (True, False):
        side = channel.side(measurer)
        assert channel.side(not measurer).messages == channel.sent[measurer]
        assert [event.ticket for event in side.of(Delivered)] == channel.tickets[measurer]
        assert side.of(NotDelivered) == []
        assert side.session.pending == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(FAULTS, max_size=80))
def test_where_the_tries_run_out_the_sender_learns_what_became_of_each_message(
    actions: list[tuple[str, bool, int]],
) -> None:
    channel = Lossy(SessionLimits(tries=2))
    channel.run(actions)
    channel.cut(measurer=True)
    channel.settle()
    assert complaints(channel) == []
    for measurer in (True, False):
        side = channel.side(measurer)
        assert outcomes(side) == dict.fromkeys(channel.tickets[measurer], 1)
        acked = {channel.by_ticket[measurer, event.ticket].meas_id for event in side.of(Delivered)}
        came = {message.meas_id for message in channel.side(not measurer).messages}
        assert acked <= came


def test_a_receiver_that_forgets_what_it_had_is_found_out() -> None:
    """The comparison above would see a message that is delivered twice."""
    channel = Lossy(PATIENT)
    channel.settle()
    channel.send(measurer=False, number=1)
    channel.carry(measurer=False, number=None)
    channel.measurer.session._delivered_seq -= 1
    channel.cut(measurer=True)
    channel.settle()
    assert complaints(channel) == ["a message came twice, or out of order"]
