import pytest

from flashflow.torctl.lines import MAX_LINE_BYTES, LineError, LineReader

STREAM = b"PROTOCOLINFO 1\r\nQUIT\n"


def read_all(reader):
    lines = []
    while (line := reader.next()) is not None:
        lines.append(line)
    return lines


def test_whole_stream():
    reader = LineReader()
    reader.feed(STREAM)
    assert read_all(reader) == ["PROTOCOLINFO 1", "QUIT"]


def test_byte_by_byte_with_a_trailing_half_line():
    reader, lines = LineReader(), []
    for byte in STREAM + b"GETIN":
        reader.feed(bytes((byte,)))
        lines += read_all(reader)
    assert lines == ["PROTOCOLINFO 1", "QUIT"]


@pytest.mark.parametrize("data", [b"x" * (MAX_LINE_BYTES + 2), b"x" * (MAX_LINE_BYTES + 2) + b"\n"])
def test_too_long_line_is_refused(data):
    reader = LineReader()
    reader.feed(data)
    with pytest.raises(LineError, match="4096"):
        reader.next()


def test_longest_line_is_taken():
    reader = LineReader()
    reader.feed(b"x" * MAX_LINE_BYTES + b"\n")
    assert len(reader.next()) == MAX_LINE_BYTES


@pytest.mark.parametrize("data", [b"\x00\x01\n", b"caf\xc3\xa9\n", b"\x16\x03\x01\x02\n"])
def test_binary_garbage_is_refused(data):
    reader = LineReader()
    reader.feed(data)
    with pytest.raises(LineError, match="ASCII"):
        reader.next()
