"""The coordinator's answers on its control socket: `OK {…}`, `ERR {…}`, `EVENT {…}`, one a line. Pure."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from flashflow.model.errors import FlashFlowError, PeerError, UsageError

MAX_COMMAND_BYTES = 4096
"""The longest command line that the coordinator takes, line end included."""
MAX_REPLY_BYTES = 64 << 20
"""The longest answer that is read: a line for each of tens of thousands of relays fits."""
COOKIE_BYTES = 32
"""Length of the secret in the cookie file."""


class ReplyKind(StrEnum):
    """The first word of an answer."""

    OK = "OK"
    ERR = "ERR"
    EVENT = "EVENT"


@dataclass(frozen=True, slots=True)
class Reply:
    """One line from the coordinator."""

    kind: ReplyKind
    """What it is."""
    body: dict[str, Any]
    """The JSON object that follows."""


class CtrlRefusedError(FlashFlowError):
    """The coordinator answered ERR."""


def parse_reply(line: bytes) -> Reply:
    """The answer in `line`, with or without its line end. Raises PeerError."""
    word, _, rest = line.rstrip(b"\r\n").partition(b" ")
    try:
        kind = ReplyKind(word.decode("ascii"))
        body = json.loads(rest.decode())
    except (ValueError, RecursionError):
        raise PeerError(
            f"not an answer of a coordinator: {line[:60]!r} (expected OK, ERR or EVENT)"
        ) from None
    if not isinstance(body, dict):
        raise PeerError(f"not an answer of a coordinator: {line[:60]!r} (expected a JSON object)")
    return Reply(kind, body)


def encode_command(words: tuple[str, ...]) -> bytes:
    """The line that carries `words`. Raises UsageError for what no line can carry."""
    for word in words:
        if not word or any(c.isspace() or not c.isprintable() for c in word):
            raise UsageError(f"not a word that a command may have: {word[:60]!r}")
    line = (" ".join(words) + "\n").encode("utf-8", "surrogateescape")
    if len(line) > MAX_COMMAND_BYTES:
        raise UsageError(f"command too long: {len(line)} bytes (expected at most {MAX_COMMAND_BYTES})")
    return line
