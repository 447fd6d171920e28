"""The session: greeting, numbers, acknowledgements, resumption, denial, heartbeats. No sockets, no clock."""

import json

import pytest

from flashflow.wire.events import Delivered, LinkClosed, MessageDenied, MessageReceived, NotDelivered, Opened
from flashflow.wire.framing import FrameReader, encode_frame
from flashflow.wire.rules import Phase, Role, SessionLimits
from flashflow.wire.session import Session
from support.wire_pair import Pair, epoch, failure, go, order, report


def frame(**fields: object) -> bytes:
    return encode_frame(json.dumps(fields).encode())


def frames(data: bytes) -> list[dict[str, object]]:
    reader, found = FrameReader(), []
    reader.feed(data)
    while (body := reader.next_frame()) is not None:
        found.append(json.loads(body))
    return found


def hello(**changes: object) -> bytes:
    fields = {
        "type": "hello",
        "version": 1,
        "name": "m1",
        "capacity_bytes": 5,
        "epoch": epoch(1),
        "peer_epoch": None,
        "received": 0,
    }
    return frame(**(fields | changes))


def test_both_sides_learn_who_the_other_is() -> None:
    pair = Pair().opened()
    assert pair.coordinator.events == [Opened("m1", 5_000_000, resumed=False)]
    assert pair.measurer.events == [Opened("coord", 0, resumed=False)]
    assert pair.measurer.session.phase is pair.coordinator.session.phase is Phase.OPEN


def test_messages_arrive_once_in_order_and_are_acknowledged() -> None:
    pair = Pair().opened()
    tickets = [pair.measurer.session.send(report(second)) for second in (1, 2, 3)]
    pair.coordinator.session.send(go())
    pair.exchange()
    assert pair.coordinator.messages == [report(1), report(2), report(3)]
    assert pair.measurer.messages == [go()]
    assert pair.measurer.of(Delivered) == [Delivered(ticket) for ticket in tickets]
    assert pair.measurer.session.pending == pair.coordinator.session.pending == 0


def test_nothing_is_acknowledged_before_it_was_taken_over() -> None:
    pair = Pair().opened()
    pair.measurer.session.send(report(1))
    data = pair.measurer.session.data_to_send(pair.now_s)
    events = pair.coordinator.session.receive(data, pair.now_s)
    assert events == [MessageReceived(1, report(1))]
    assert pair.coordinator.session.data_to_send(pair.now_s) == b""
    pair.coordinator.session.take_over(1)
    assert frames(pair.coordinator.session.data_to_send(pair.now_s)) == [{"type": "heartbeat", "ack": 1}]


def test_a_message_queued_without_a_connection_is_sent_on_the_next() -> None:
    pair = Pair()
    pair.measurer.session.send(report(1))
    pair.opened()
    assert pair.coordinator.messages == [report(1)]


def test_what_was_lost_with_a_connection_is_sent_again() -> None:
    pair = Pair().opened()
    pair.measurer.session.send(report(1))
    pair.measurer.session.data_to_send(pair.now_s)  # and the bytes are lost
    pair.disconnect()
    pair.measurer.session.send(report(2))
    pair.opened()
    assert pair.coordinator.messages == [report(1), report(2)]
    assert pair.measurer.events[-3:] == [Opened("coord", 0, resumed=True), Delivered(1), Delivered(2)]


def test_what_arrived_but_whose_acknowledgement_was_lost_is_not_delivered_again() -> None:
    pair = Pair().opened()
    pair.measurer.session.send(report(1))
    pair.move(pair.measurer, pair.coordinator)
    pair.disconnect()
    pair.opened()
    assert pair.coordinator.messages == [report(1)]
    assert pair.measurer.of(Delivered) == [Delivered(1)]


def test_a_number_that_comes_twice_is_acknowledged_and_dropped() -> None:
    pair = Pair().opened()
    data = frame(type="data", seq=1, ack=0, message={"type": "Go", "meas_id": 1})
    for _ in range(2):
        pair.measurer.take(pair.measurer.session.receive(data, pair.now_s))
    assert pair.measurer.messages == [go()]
    assert frames(pair.measurer.session.data_to_send(pair.now_s)) == [{"type": "heartbeat", "ack": 1}]


def test_a_coordinator_that_began_anew_gets_nothing_of_the_old_session() -> None:
    pair = Pair().opened()
    pair.measurer.session.send(report(1))
    pair.measurer.session.data_to_send(pair.now_s)
    pair.disconnect()
    pair.measurer.session.send(report(2))
    pair.coordinator.session = Session(Role.COORDINATOR, "coord", 0, epoch(77))
    pair.opened()
    assert pair.coordinator.messages == []
    assert pair.measurer.events[-3:] == [
        NotDelivered(1, report(1), certain=False, reason="the peer began a new session"),
        NotDelivered(2, report(2), certain=True, reason="the peer began a new session"),
        Opened("coord", 0, resumed=False),
    ]
    pair.measurer.session.send(report(3))
    pair.exchange()
    assert pair.coordinator.messages == [report(3)]


def test_a_measurer_that_began_anew_gets_a_new_session() -> None:
    pair = Pair().opened()
    pair.coordinator.session.send(go(1))
    pair.coordinator.session.data_to_send(pair.now_s)
    pair.disconnect()
    pair.measurer.session = Session(Role.MEASURER, "m1", 5_000_000, epoch(78))
    pair.opened()
    assert pair.measurer.messages == []
    assert pair.coordinator.of(Opened)[-1] == Opened("m1", 5_000_000, resumed=False)
    assert [event.certain for event in pair.coordinator.of(NotDelivered)] == [False]


def test_a_session_that_was_given_up_cannot_be_resumed() -> None:
    pair = Pair().opened()
    pair.coordinator.session.send(go(1))
    pair.disconnect()
    lost = pair.coordinator.session.abandon("it did not come back")
    assert lost == [NotDelivered(1, go(1), certain=True, reason="it did not come back")]
    pair.opened()
    assert pair.measurer.of(Opened)[-1] == Opened("coord", 0, resumed=False)
    assert pair.measurer.messages == []


def test_a_session_whose_welcome_was_lost_is_not_begun_twice() -> None:
    pair = Pair()
    pair.connect()
    pair.move(pair.measurer, pair.coordinator)
    pair.coordinator.session.send(go())
    pair.disconnect()
    pair.opened()
    assert pair.coordinator.of(Opened)[-1] == Opened("m1", 5_000_000, resumed=True)
    assert pair.measurer.messages == [go()]


def test_a_new_session_whose_welcome_was_lost_is_not_taken_for_the_old_one() -> None:
    pair = Pair().opened()
    pair.coordinator.session.send(go(1))
    pair.exchange()
    pair.disconnect()
    pair.coordinator.session.abandon("it did not come back")
    pair.connect()
    pair.move(pair.measurer, pair.coordinator)  # a new session begins, but its Welcome is lost
    pair.coordinator.session.send(go(2))
    pair.coordinator.session.data_to_send(pair.now_s)
    pair.disconnect()
    pair.opened()  # the measurer still names the old session, of which it took one message over
    assert [event.resumed for event in pair.coordinator.of(Opened)] == [False, False, False]
    assert [event.message for event in pair.coordinator.of(NotDelivered)] == [go(2)]
    assert pair.coordinator.of(LinkClosed) == []


def test_the_outbound_buffer_is_bounded() -> None:
    pair = Pair(SessionLimits(buffer_messages=2)).opened()
    tickets = [pair.measurer.session.send(report(second)) for second in (1, 2, 3)]
    pair.exchange()
    assert pair.coordinator.messages == [report(1), report(2)]
    assert pair.measurer.of(NotDelivered) == [
        NotDelivered(tickets[2], report(3), certain=True, reason="2 messages wait already")
    ]


def test_heartbeats_go_out_each_second_and_keep_the_link() -> None:
    pair = Pair().opened()
    for _ in range(20):
        pair.now_s += 1.0
        for side in (pair.measurer, pair.coordinator):
            side.take(side.session.handle_timer(pair.now_s))
        pair.exchange()
    assert pair.measurer.of(LinkClosed) == pair.coordinator.of(LinkClosed) == []
    assert pair.measurer.session.heard_s == pair.now_s


def test_three_missed_heartbeats_close_the_link() -> None:
    pair = Pair().opened()
    session = pair.measurer.session
    assert session.next_timer() == pair.now_s + 1.0
    assert session.handle_timer(pair.now_s + 3.4) == []
    assert frames(session.data_to_send(pair.now_s + 3.4))[0]["type"] == "heartbeat"
    assert session.next_timer() == pair.now_s + 3.5
    assert session.handle_timer(pair.now_s + 3.5) == [LinkClosed("no heartbeat for 3.5 s", by_peer=False)]
    assert session.next_timer() is None


def test_a_peer_that_does_not_greet_is_closed() -> None:
    pair = Pair()
    pair.connect()
    session = pair.coordinator.session
    session.receive(hello()[:30], pair.now_s + 4.9)
    assert session.next_timer() == pair.now_s + 5.0
    assert session.handle_timer(pair.now_s + 5.0) == [LinkClosed("no greeting in time", by_peer=False)]
    assert frames(session.data_to_send(pair.now_s + 5.0)) == [
        {"type": "denial", "seq": None, "reason": "no greeting in time"}
    ]


def test_a_message_of_the_wrong_direction_is_denied_and_the_link_goes_on() -> None:
    pair = Pair().opened()
    pair.measurer.session.send(report(1))
    pair.measurer.session.send(go())
    pair.measurer.session.send(report(2))
    pair.exchange()
    assert pair.coordinator.messages == [report(1), report(2)]
    reason = "Go is not for this side to receive"
    assert pair.coordinator.of(MessageDenied) == [MessageDenied(2, reason)]
    assert pair.measurer.of(NotDelivered) == [NotDelivered(2, go(), certain=True, reason=f"denied: {reason}")]
    assert pair.measurer.of(Delivered) == [Delivered(1), Delivered(3)]
    assert pair.measurer.session.pending == 0


def test_a_malformed_message_is_denied_and_not_sent_again() -> None:
    pair = Pair().opened()
    bad = frame(type="data", seq=1, ack=0, message={"type": "Go", "meas_id": -289})
    events = pair.measurer.session.receive(bad, pair.now_s)
    assert [type(event) for event in events] == [MessageDenied]
    denial = frames(pair.measurer.session.data_to_send(pair.now_s))
    assert denial[0]["seq"] == 1
    assert denial[1] == {"type": "heartbeat", "ack": 1}


def test_a_denied_message_is_not_acknowledged_before_those_in_front_of_it() -> None:
    pair = Pair().opened()
    first = frame(type="data", seq=1, ack=0, message={"type": "Go", "meas_id": 1})
    bad = frame(type="data", seq=2, ack=0, message={"type": "nonsense"})
    session = pair.measurer.session
    session.receive(first + bad, pair.now_s)
    assert frames(session.data_to_send(pair.now_s))[1] == {"type": "heartbeat", "ack": 0}
    session.take_over(1)
    assert frames(session.data_to_send(pair.now_s)) == [{"type": "heartbeat", "ack": 2}]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode_frame(b"\xff"), "not UTF-8"),
        (encode_frame(b"{"), "frame refused"),
        (encode_frame(b"{}"), "frame refused"),
        (frame(type="nonsense"), "frame refused"),
        ((1_000_000).to_bytes(4, "big"), "frame of 1000000 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "frame of 1195725856 bytes"),
        (frame(type="heartbeat", ack=9), "acknowledges message 9"),
        (frame(type="data", seq=2, ack=0, message={}), "message 2 after 0"),
        (frame(type="data", seq=1, ack=5, message={}), "acknowledges message 5"),
        (hello(), "hello is not expected in phase open"),
        (frame(type="welcome", version=1, name="c", epoch=epoch(1), received=0), "welcome is not expected"),
    ],
)
def test_what_breaks_the_protocol_is_denied_with_the_reason_and_closes_the_link(
    data: bytes, reason: str
) -> None:
    pair = Pair().opened()
    session = pair.coordinator.session
    events = session.receive(data + frame(type="heartbeat", ack=0), pair.now_s)
    assert [type(event) for event in events] == [LinkClosed]
    assert reason in events[0].reason
    assert events[0].by_peer
    denial = frames(session.data_to_send(pair.now_s))
    assert [part["type"] for part in denial] == ["denial"]
    assert reason in str(denial[0]["reason"])
    assert session.receive(hello(), pair.now_s) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (hello(version=2), "protocol version 2 (this side speaks 1)"),
        (hello(name="m2"), "greets as m2, but its certificate says m1"),
        (frame(type="heartbeat", ack=0), "heartbeat is not expected in phase greeting"),
        (frame(type="data", seq=1, ack=0, message={}), "data is not expected in phase greeting"),
    ],
)
def test_a_bad_greeting_is_denied(data: bytes, reason: str) -> None:
    pair = Pair()
    pair.connect()
    assert pair.coordinator.session.receive(data, pair.now_s) == [LinkClosed(reason, by_peer=True)]


def test_a_denied_side_learns_the_reason() -> None:
    pair = Pair()
    pair.connect()
    pair.coordinator.session.receive(hello(version=9), pair.now_s)
    pair.move(pair.coordinator, pair.measurer)
    assert pair.measurer.events == [
        LinkClosed("denied: protocol version 9 (this side speaks 1)", by_peer=True)
    ]


def test_a_connection_that_ends_within_a_frame_is_complained_about() -> None:
    pair = Pair().opened()
    pair.coordinator.session.receive(frame(type="heartbeat", ack=0)[:9], pair.now_s)
    assert pair.coordinator.session.disconnected() == "connection ended within a frame (9 bytes of it came)"
    assert pair.measurer.session.disconnected() is None


def test_a_frame_that_drips_in_does_not_count_as_life() -> None:
    pair = Pair().opened()
    session = pair.coordinator.session
    for position, byte in enumerate(frame(type="heartbeat", ack=0)[:-1]):
        session.receive(bytes([byte]), pair.now_s + position / 10)
    assert session.heard_s == pair.now_s


def test_every_message_type_passes_in_its_direction() -> None:
    pair = Pair().opened()
    pair.coordinator.session.send(order())
    pair.coordinator.session.send(failure())
    pair.measurer.session.send(failure(None))
    pair.exchange()
    assert pair.measurer.messages == [order(), failure()]
    assert pair.coordinator.messages == [failure(None)]


def test_bytes_without_a_connection_are_dropped() -> None:
    session = Pair().coordinator.session
    assert session.receive(hello(), 1.0) == []
    assert session.data_to_send(1.0) == b""
    assert session.next_timer() is None


def test_a_message_that_is_not_acknowledged_in_time_is_sent_again_on_another_connection() -> None:
    pair = Pair().opened()
    ticket = pair.coordinator.session.send(go(7))
    deaf_exchange(pair)  # it came, but the measurer does not take it over
    sent_s = pair.now_s
    for _ in range(4):  # though it is there
        pair.now_s += 1.0
        beat = frame(type="heartbeat", ack=0)
        pair.coordinator.take(pair.coordinator.session.receive(beat, pair.now_s))
        pair.coordinator.take(pair.coordinator.session.handle_timer(pair.now_s))
    assert pair.coordinator.of(LinkClosed) == []
    assert pair.coordinator.session.figures(pair.now_s).waits_s == 4.0
    pair.coordinator.session.data_to_send(pair.now_s)
    assert pair.coordinator.session.next_timer() == sent_s + 5.0
    pair.now_s = sent_s + 5.0
    pair.coordinator.take(pair.coordinator.session.handle_timer(pair.now_s))
    assert pair.coordinator.of(LinkClosed) == [LinkClosed("no acknowledgement for 5 s", by_peer=False)]
    pair.disconnect()
    pair.opened()
    pair.measurer.session.take_over(1)
    pair.exchange()
    assert pair.coordinator.of(Delivered) == [Delivered(ticket)]
    figures = pair.coordinator.session.figures(pair.now_s)
    assert (figures.connections, figures.resent, figures.delivered, figures.pending) == (2, 1, 1, 0)
    assert pair.measurer.session.figures(pair.now_s).repeated == 1


def deaf_exchange(pair: Pair) -> None:
    """Everything is carried, and nobody takes a message over."""
    for sender, receiver in [(pair.measurer, pair.coordinator), (pair.coordinator, pair.measurer)] * 2:
        receiver.events += receiver.session.receive(sender.session.data_to_send(pair.now_s), pair.now_s)


@pytest.mark.parametrize("sender", ["coordinator", "measurer"])
def test_after_so_many_tries_the_session_is_given_up_and_a_new_one_works(sender: str) -> None:
    pair = Pair(SessionLimits(tries=3)).opened()
    side, message = (pair.coordinator, go(7)) if sender == "coordinator" else (pair.measurer, report(1))
    other = pair.measurer if sender == "coordinator" else pair.coordinator
    ticket = side.session.send(message)
    for _ in range(3):
        deaf_exchange(pair)
        assert side.of(NotDelivered) == []
        pair.disconnect()
        pair.connect()
    pair.exchange()
    reason = "sent on 3 connections, never acknowledged"
    assert side.of(NotDelivered) == [NotDelivered(ticket, message, certain=False, reason=reason)]
    if (
        sender == "measurer"
    ):  # it learned that from the coordinator's greeting: it begins anew on the next connection
        assert side.of(LinkClosed) == [LinkClosed(reason, by_peer=False)]
        pair.disconnect()
        pair.opened()
    assert pair.coordinator.of(Opened)[-1].resumed is False
    again = side.session.send(message)
    pair.exchange()
    assert side.of(Delivered) == [Delivered(again)]
    assert other.messages[-1] == message


def test_what_waits_can_be_asked_for_by_measurement() -> None:
    session = Pair().coordinator.session
    for number in (5, 6, 5):
        session.send(go(number))
    session.send(failure(None))
    assert [session.pending_of(number) for number in (5, 6, 7)] == [2, 1, 0]
