"""Lines of the control socket, from both ends."""

import pytest

from flashflow.ctrl.protocol import MAX_COMMAND_BYTES, Reply, ReplyKind, encode_command, parse_reply
from flashflow.model.errors import PeerError, UsageError


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_reply_is_a_word_and_an_object(end: bytes) -> None:
    assert parse_reply(b'OK {"a": 1}' + end) == Reply(ReplyKind.OK, {"a": 1})
    assert parse_reply(b'EVENT {"event":"done"}' + end) == Reply(ReplyKind.EVENT, {"event": "done"})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"OK",
        b"OK ",
        b"OK 1",
        b"OK [1]",
        b"OK {",
        b"ok {}",
        b"HTTP/1.1 400 Bad Request",
        b'OK {"a": "\xff"}',
        b"OK " + b"[" * 100_000,
        b"\x16\x03\x01",
    ],
)
def test_what_is_no_reply_is_the_peers_fault(line: bytes) -> None:
    with pytest.raises(PeerError, match="not an answer of a coordinator"):
        parse_reply(line)


def test_a_command_is_its_words_and_a_line_end() -> None:
    assert encode_command(("measure", "relay1", "wait")) == b"measure relay1 wait\n"


@pytest.mark.parametrize("word", ["", "two words", "line\nend", "null\0", "tab\t", "\x1b[2J"])
def test_a_word_that_would_be_another_command_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="not a word"):
        encode_command(("measure", word))


def test_a_command_that_the_coordinator_would_not_take_is_refused() -> None:
    fits = "x" * (MAX_COMMAND_BYTES - len("measure \n"))
    assert len(encode_command(("measure", fits))) == MAX_COMMAND_BYTES
    with pytest.raises(UsageError, match="too long"):
        encode_command(("measure", fits + "x"))
