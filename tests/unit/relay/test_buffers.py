import pytest

from flashflow.relay.buffers import Buffer


def put(buffer: Buffer, data: bytes) -> None:
    room = buffer.room(len(data))
    room[:] = data[: len(room)]
    buffer.added(len(room))


def test_bytes_come_out_as_they_went_in_wherever_the_ends_are() -> None:
    buffer, expected, taken = Buffer(100), b"", b""
    for number in range(60):
        piece = bytes([number]) * (number % 37)
        if len(piece) <= buffer.free_bytes:
            put(buffer, piece)
            expected += piece
        out = bytes(buffer.filled()[: number % 29])
        buffer.taken(len(out))
        taken += out
    assert taken + bytes(buffer.filled()) == expected
    assert len(taken) > 200


def test_room_is_bounded_by_what_is_free() -> None:
    buffer = Buffer(10)
    put(buffer, b"abcdefg")
    buffer.taken(5)
    assert buffer.free_bytes == 8
    assert len(buffer.room(100)) == 8
    assert bytes(buffer.filled()) == b"fg"


def test_a_view_may_be_smaller_than_asked_for_but_never_wraps() -> None:
    buffer = Buffer(10)
    put(buffer, b"abcdefgh")
    buffer.taken(7)
    put(buffer, b"123456789")
    assert bytes(buffer.filled()) == b"h123456789"
    assert buffer.free_bytes == 0
    assert len(buffer.room(1)) == 0


def test_clear() -> None:
    buffer = Buffer(10)
    buffer.add(b"abc")
    buffer.clear()
    assert (len(buffer), buffer.free_bytes) == (0, 10)


def test_what_does_not_fit_is_our_own_mistake() -> None:
    buffer = Buffer(10)
    buffer.add(b"abc")
    with pytest.raises(ValueError, match="8 bytes for a buffer with room for 7"):
        buffer.add(b"12345678")
