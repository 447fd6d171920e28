import pytest

from flashflow.torclient.core.messages import (
    BackgroundCounted,
    Begin,
    CircuitBuilt,
    CircuitEnded,
    CreateRepeated,
    FrameReader,
    Halt,
    OpenCircuits,
    OpenCoord,
    ParamsAnswered,
    ParamsWereSent,
    SecondCounted,
    ShareEnded,
    WorkerReady,
    encode_frame,
)

MESSAGES = [
    OpenCircuits(1, 7, (1, 2), "::1", 9001, "A" * 40, "ab", "cd", "ef", 125),
    OpenCircuits(1, 7, (1, 2), "::1", 9001, "A" * 40, "ab", "cd", "", 125, ("::1:5/AA/bb/cc", "x")),
    Begin(1, (1, 2), 12.5, 2.0, 30, None),
    Begin(1, (), 12.5, 2.0, 30, 1e6),
    Halt(1),
    OpenCoord(1, 5, "127.0.0.1", 9001, "A" * 40, "ab", "cd", "ef"),
    WorkerReady(),
    CircuitBuilt(1, 5),
    CreateRepeated(1, 5),
    CircuitEnded(1, 5, "TIMEOUT", "détail"),
    SecondCounted(1, 2, 514, 0),
    ShareEnded(1, None, ""),
    ParamsWereSent(1),
    ParamsAnswered(1, "REFUSED_BUSY"),
    BackgroundCounted(1, 2, 3, 4),
]


def test_all_at_once():
    assert FrameReader().receive(b"".join(encode_frame(message) for message in MESSAGES)) == MESSAGES


def test_byte_by_byte():
    reader, found = FrameReader(), []
    for byte in b"".join(encode_frame(message) for message in MESSAGES):
        found += reader.receive(bytes((byte,)))
    assert found == MESSAGES


def test_what_does_not_decode_is_a_bug():
    with pytest.raises(KeyError):
        FrameReader().receive(b'\x00\x00\x00\x08["Nope"]')
