import json

import pytest

from flashflow.model.clock import Now
from flashflow.model.errors import LocalError
from flashflow.relay.counting import CountedStream, Counter, CountsFile


class Pipe:
    """A stream that gives what it is told to."""

    def __init__(self, *results: int | None) -> None:
        self.results = list(results)

    def recv_into(self, room: memoryview) -> int | None:
        return self.results.pop(0)

    def send(self, data: memoryview) -> int:
        return self.results.pop(0) or 0


def test_what_passes_is_counted() -> None:
    counter = Counter()
    stream = CountedStream(Pipe(514, None, 0, 100, 0, 28), counter)
    room = memoryview(bytearray(600))
    assert [stream.recv_into(room) for _ in range(3)] == [514, None, 0]
    assert [stream.send(room) for _ in range(3)] == [100, 0, 28]
    assert (counter.read_bytes, counter.written_bytes) == (514, 128)


def test_a_line_every_tenth_of_a_second_with_the_time_it_was_written(tmp_path) -> None:
    path, counter = tmp_path / "counts", Counter()
    counts = CountsFile(path, counter, Now(5.0, 100.0))
    for mono_s in (5.0, 5.05, 5.11, 5.35, 5.36, 5.41, 5.51):
        counter.read_bytes += 514
        counts.tick(Now(mono_s, mono_s + 95))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [round(line["utc_s"], 2) for line in lines] == [100.0, 100.11, 100.35, 100.41, 100.51]
    assert [line["read_bytes"] for line in lines] == [514, 3 * 514, 4 * 514, 6 * 514, 7 * 514]
    assert all(line["written_bytes"] == 0 for line in lines)


def test_closing_writes_the_last_line(tmp_path) -> None:
    path, counter = tmp_path / "counts", Counter()
    counts = CountsFile(path, counter, Now(0.0, 0.0))
    counter.written_bytes = 7
    counts.close(Now(1.0, 1.0))
    assert json.loads(path.read_text()) == {"utc_s": 1.0, "read_bytes": 0, "written_bytes": 7}
    assert counts.next_s is None


def test_without_a_path_nothing_is_written() -> None:
    counts = CountsFile(None, Counter(), Now(0.0, 0.0))
    counts.tick(Now(9.0, 9.0))
    assert counts.next_s is None


def test_a_path_that_cannot_be_written(tmp_path) -> None:
    with pytest.raises(LocalError, match="No such file"):
        CountsFile(tmp_path / "none" / "counts", Counter(), Now(0.0, 0.0))
