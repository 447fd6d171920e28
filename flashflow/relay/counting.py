"""Counts the bytes of cells on the relay's own sockets, and writes them down ten times a second.

Apart from the echo, which neither knows nor uses these counts: they are the truth that measurements are compared with.
"""

import json
from pathlib import Path
from typing import Final, Protocol, TextIO

from flashflow.model.clock import Now
from flashflow.model.errors import LocalError

INTERVAL_S: Final = 0.1


class Stream(Protocol):
    """What carries a link's bytes."""

    def recv_into(self, room: memoryview) -> int | None:
        """Bytes read, 0 at the end, None if there are none yet."""
        ...

    def send(self, data: memoryview) -> int:
        """Bytes written."""
        ...


class Counter:
    """Cell bytes of all links together since the relay began."""

    def __init__(self) -> None:
        self.read_bytes = 0
        self.written_bytes = 0

    def line(self, now: Now) -> str:
        """One line of the counts file, which a reader takes as a JSON object."""
        values = {"utc_s": now.utc_s, "read_bytes": self.read_bytes, "written_bytes": self.written_bytes}
        return json.dumps(values) + "\n"


class CountedStream:
    """Counts what passes through a stream's recv_into and send."""

    def __init__(self, stream: Stream, counter: Counter) -> None:
        self._stream = stream
        self._counter = counter

    def recv_into(self, room: memoryview) -> int | None:
        """As the stream's."""
        count = self._stream.recv_into(room)
        self._counter.read_bytes += count or 0
        return count

    def send(self, data: memoryview) -> int:
        """As the stream's."""
        count = self._stream.send(data)
        self._counter.written_bytes += count
        return count


class CountsFile:
    """Appends the counter to a file every 0.1 s; without a path it does nothing.

    LocalError if the file cannot be opened or written.
    """

    def __init__(self, path: Path | None, counter: Counter, now: Now) -> None:
        self._path = path
        self._counter = counter
        self._next_s = now.mono_s
        try:
            # Line buffering: whoever reads the file while the relay runs finds whole lines.
            self._file = None if path is None else path.open("a", encoding="utf-8", buffering=1)
        except OSError as exc:
            raise LocalError(f"counts file {path}: {exc.strerror}") from exc

    @property
    def next_s(self) -> float | None:
        """Monotonic time of the next line, or None."""
        return None if self._file is None else self._next_s

    def tick(self, now: Now) -> None:
        """Writes a line if it is time. Its time stamp is the moment of writing, so lateness does not matter."""
        if self._file is not None and now.mono_s >= self._next_s:
            self._write(self._file, now)
            self._next_s += INTERVAL_S * (1 + int((now.mono_s - self._next_s) / INTERVAL_S))

    def close(self, now: Now) -> None:
        """Writes the last line."""
        if self._file is not None:
            self._write(self._file, now)
            self._file.close()
            self._file = None

    def _write(self, file: TextIO, now: Now) -> None:
        try:
            file.write(self._counter.line(now))
        except OSError as exc:
            raise LocalError(f"counts file {self._path}: {exc.strerror}") from exc
