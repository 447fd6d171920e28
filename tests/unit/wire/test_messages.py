"""Messages: every field is bounded, nothing unknown passes, errors are one line."""

import json

import pytest

from flashflow.model.errors import ErrorKind, PeerError
from flashflow.wire.messages import (
    ConnectedToRelay,
    Data,
    Denial,
    Failure,
    Heartbeat,
    Hello,
    LoopLimits,
    Message,
    Stop,
    Welcome,
    encode_envelope,
    one_line,
    parse_envelope,
    parse_message,
)
from support.wire_pair import KEY, TOKEN, failure, go, order, report

MESSAGES = [
    order(),
    order(relay_addr="[2001:db8::1]:443", mode="loop", warmup_s=0),
    order(mode="loop", limits=LoopLimits(connections=7, connections_per_s=0.25, circuit_cells=8)),
    ConnectedToRelay(meas_id=2**32 - 1, n_circs=160),
    go(),
    Stop(meas_id=1, reason="cancelled"),
    report(3),
    failure(),
    failure(None),
]
ENVELOPES = [
    Hello(version=1, name="m.1-x_Y", capacity_bytes=1, epoch="0" * 32, peer_epoch=None, received=0),
    Welcome(version=1, name="coord", epoch="f" * 32, received=2**53),
    Data(seq=1, ack=0, message={"type": "Go", "meas_id": 1}),
    Heartbeat(ack=7),
    Denial(seq=None, reason="no"),
    Denial(seq=4, reason="ünïcode"),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.type)
def test_messages_survive_the_wire(message: Message) -> None:
    fields = json.loads(json.dumps(message.model_dump(mode="json")))
    assert parse_message(fields) == message


@pytest.mark.parametrize("envelope", ENVELOPES, ids=lambda envelope: envelope.type)
def test_envelopes_survive_the_wire(envelope: Hello) -> None:
    assert parse_envelope(encode_envelope(envelope)) == envelope


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("meas_id", 0),
        ("meas_id", 2**32),
        ("meas_id", "1"),
        ("meas_id", 1.0),
        ("meas_id", True),
        ("meas_id", None),
        ("fp", "ab" * 20),
        ("fp", "AB" * 19),
        ("n_circs", 0),
        ("n_circs", 161),
        ("dur_s", 0),
        ("dur_s", 10**9),
        ("warmup_s", -1),
        ("rate_bytes", 0),
        ("rate_bytes", 10**30),
        ("mode", "shout"),
        ("relay_addr", "nowhere"),
        ("relay_addr", "1.2.3.4:99999"),
        ("relay_addr", "2001:db8::1:443"),
        ("relay_addr", "x" * 400 + ":1"),
        ("ed25519", "A" * 42 + "=="),
        ("ed25519", KEY + KEY),
        ("ntor", "not base64 at all!"),
        ("token", TOKEN.upper()),
        ("token", TOKEN + "00"),
        ("type", "Unknown"),
        ("type", ["ConnectToRelay"]),
        ("limits", {"connections": 41}),
        ("limits", {"connections_per_s": 0}),
        ("limits", {"connections_per_s": float("nan")}),
        ("limits", {"circuits_burst": 2.5}),
        ("limits", {"circuit_cells": 7}),
        ("limits", {"more": 1}),
        ("extra", 1),
    ],
)
def test_a_wrong_field_is_refused_in_one_line(field: str, value: object) -> None:
    fields = order().model_dump(mode="json") | {field: value}
    with pytest.raises(PeerError) as caught:
        parse_message(fields)
    assert "\n" not in caught.value.reason
    assert len(caught.value.reason) < 300
    assert TOKEN not in caught.value.reason


@pytest.mark.parametrize(
    "changes",
    [{"second": 0}, {"second": 10**6}, {"sent_bytes": -289}, {"recv_bytes": 2**51}, {"recv_bytes": "9"}],
)
def test_absurd_reports_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(PeerError):
        parse_message(report(1).model_dump(mode="json") | changes)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b'{"type":"heartbeat","ack":1', "JSON"),
        (b"[]", "frame refused"),
        (b"null", "frame refused"),
        (b'"' + b"x" * 1000 + b'"', "frame refused"),
        (b'{"type":"nonsense"}', "frame refused"),
        (b'{"type":"heartbeat"}', "ack"),
        (b'{"type":"heartbeat","ack":1,"x":2}', "x"),
        (b'{"type":"heartbeat","ack":-1}', "ack"),
        (b'{"type":"heartbeat","ack":NaN}', "frame refused"),
        (b'{"type":"heartbeat","ack":' + b"9" * 5000 + b"}", "frame refused"),
        (b"[" * 60000, "frame refused"),
        (
            b'{"type":"data","seq":1,"ack":0,"message":' + b'{"a":' * 9000 + b"1" + b"}" * 9001,
            "frame refused",
        ),
    ],
    ids=range(13),
)
def test_bad_bodies_are_refused_in_one_line(body: bytes, reason: str) -> None:
    with pytest.raises(PeerError, match=reason) as caught:
        parse_envelope(body)
    assert "\n" not in caught.value.reason
    assert len(caught.value.reason) < 300


def test_a_reason_becomes_one_printable_line() -> None:
    assert one_line("a\n\tb\x1b[31m\ud800 c" + "d" * 1000).startswith("a b [31m c")
    assert len(one_line("d" * 1000)) == 400
    built = Failure(meas_id=1, code="X", kind=ErrorKind.LOCAL, reason="two\nlines")
    assert built.reason == "two lines"
    came = parse_message(built.model_dump(mode="json") | {"reason": "three\r\nlines\x00"})
    assert isinstance(came, Failure)
    assert came.reason == "three lines"


def test_a_failure_goes_over_the_wire_with_its_kind() -> None:
    sent = failure()
    came = parse_message(json.loads(sent.model_dump_json()))
    assert isinstance(came, Failure)
    assert came.kind is ErrorKind.NETWORK


def test_tokens_do_not_show_in_logs() -> None:
    assert TOKEN not in repr(order())
    assert TOKEN not in str(order())
