"""Frames and messages: anything built is read back; anything else is refused with one line."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flashflow.model.errors import ErrorKind, PeerError
from flashflow.wire.framing import MAX_FRAME_BYTES, FrameReader, encode_frame
from flashflow.wire.messages import BwReport, Failure, Stop, parse_envelope, parse_message

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TYPES = st.sampled_from(
    ["hello", "welcome", "data", "heartbeat", "denial", "Go", "Stop", "BwReport", "Failure"]
)


def refusal(parse: Callable[[Any], object], given: object) -> str:
    """Why `parse` refuses `given`, or ''; anything but a PeerError fails the test."""
    try:
        parse(given)
    except PeerError as error:
        return error.reason
    return ""


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=6), st.data())
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    bodies: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(map(encode_frame, bodies))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader, found = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        while (body := reader.next_frame()) is not None:
            found.append(body)
    assert found == bodies
    assert reader.pending_bytes == 0


@settings(max_examples=200, deadline=None)
@given(st.text(), st.sampled_from(ErrorKind), st.integers(1, 2**32 - 1))
def test_any_reason_fits_a_frame_and_survives(reason: str, kind: ErrorKind, meas_id: int) -> None:
    for message in (
        Failure(meas_id=meas_id, code="LAUNCH_CIRCS", kind=kind, reason=reason),
        Stop(meas_id=meas_id, reason=reason),
    ):
        text = message.model_dump_json()
        assert len(encode_frame(text.encode())) < MAX_FRAME_BYTES // 4
        assert parse_message(json.loads(text)) == message


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 600), st.integers(0, 2**50), st.integers(0, 2**50))
def test_any_report_survives(second: int, sent_bytes: int, recv_bytes: int) -> None:
    report = BwReport(meas_id=1, second=second, sent_bytes=sent_bytes, recv_bytes=recv_bytes)
    assert parse_message(json.loads(report.model_dump_json())) == report


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=10), JSON, max_size=5), TYPES)
def test_any_json_is_read_or_refused_in_one_line(fields: dict[str, Any], kind: str) -> None:
    for parse in (parse_message, lambda given: parse_envelope(json.dumps(given).encode())):
        reason = refusal(parse, {**fields, "type": kind})
        assert reason.isprintable()
        assert len(reason) < 300


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    assert refusal(parse_envelope, body).isprintable()
