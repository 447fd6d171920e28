"""Frames: whole, byte by byte, trailing; lengths that are refused as soon as they are read."""

import pytest

from flashflow.model.errors import PeerError
from flashflow.wire.framing import MAX_FRAME_BYTES, FrameReader, encode_frame


def bodies(reader: FrameReader) -> list[bytes]:
    found = []
    while (body := reader.next_frame()) is not None:
        found.append(body)
    return found


def test_a_frame_is_its_length_and_its_body() -> None:
    assert encode_frame(b"{}") == b"\x00\x00\x00\x02{}"


def test_frames_come_out_whole_joined_and_byte_by_byte() -> None:
    stream = encode_frame(b"one") + encode_frame(b"x" * MAX_FRAME_BYTES) + encode_frame(b"three")
    whole, single = FrameReader(), FrameReader()
    whole.feed(stream)
    expected = [b"one", b"x" * MAX_FRAME_BYTES, b"three"]
    assert bodies(whole) == expected
    found = []
    for position in range(len(stream)):
        single.feed(stream[position : position + 1])
        found += bodies(single)
    assert found == expected
    assert whole.pending_bytes == single.pending_bytes == 0


def test_half_a_frame_waits_for_the_rest() -> None:
    reader = FrameReader()
    frame = encode_frame(b"hello")
    reader.feed(frame[:6])
    assert reader.next_frame() is None
    assert reader.pending_bytes == 6
    reader.feed(frame[6:])
    assert reader.next_frame() == b"hello"


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 1_000_000, 2**32 - 1])
def test_a_bad_length_is_refused_before_its_body_comes(length: int) -> None:
    reader = FrameReader()
    reader.feed(length.to_bytes(4, "big"))
    with pytest.raises(PeerError, match=f"frame of {length} bytes"):
        reader.next_frame()


@pytest.mark.parametrize("body", [b"", b"x" * (MAX_FRAME_BYTES + 1)])
def test_we_never_build_such_a_frame(body: bytes) -> None:
    with pytest.raises(ValueError, match="frame body"):
        encode_frame(body)
