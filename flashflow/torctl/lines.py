"""Cuts a control connection's bytes into lines (control-spec 2.1)."""

from typing import Final

from flashflow.model.errors import PeerError

MAX_LINE_BYTES: Final = 4096
"""Longest command line, without its end; ten measurers need about 1,200."""


class LineError(PeerError):
    """Bytes that cannot be a command line."""


class LineReader:
    """Collects bytes and gives whole lines; CRLF ends a line, a bare LF is accepted too."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Adds bytes that arrived."""
        self._buffer += data

    def next(self) -> str | None:
        """The next line without its end, or None. LineError if it is too long or not printable ASCII."""
        end = self._buffer.find(b"\n")
        if end > MAX_LINE_BYTES or (end < 0 and len(self._buffer) > MAX_LINE_BYTES):
            raise LineError(f"line too long: at most {MAX_LINE_BYTES} bytes expected")
        if end < 0:
            return None
        raw = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        if not all(32 <= byte < 127 for byte in raw):
            raise LineError("line is not printable ASCII")
        return raw.decode("ascii")
