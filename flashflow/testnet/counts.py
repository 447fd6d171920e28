"""What a relay counted on its own sockets: the truth that a measurement is compared with."""

import json
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from flashflow.model.errors import LocalError
from flashflow.model.units import to_mbps

PATIENCE_S = 10.0
"""A line that should have been written so recently may still come: a tor with much to do answers after seconds."""
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Count:
    """One line of a counts file."""

    utc_s: float
    """When it was written, Unix time."""
    read_bytes: int
    """Cell bytes read since the relay began."""
    written_bytes: int
    """Cell bytes written since the relay began."""


def read_counts(path: Path) -> list[Count]:
    """The file's counts, in order; half a line at its end is left out. LocalError if the file is something else."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise LocalError(f"counts file {path}: {exc}") from exc
    counts = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            value = json.loads(line)
            counts.append(Count(float(value["utc_s"]), int(value["read_bytes"]), int(value["written_bytes"])))
        except (ValueError, KeyError, TypeError) as exc:
            raise LocalError(f"counts file {path}, line {number}: {line[:60]!r} is no count") from exc
    return counts


def per_second_read_bytes(path: Path, start_utc_s: float, duration_s: int) -> list[float]:
    """Cell bytes read in each second from `start_utc_s` on, interpolated at the seconds' boundaries.

    LocalError if the file does not cover these seconds.
    """
    counts = _read_until(path, start_utc_s + duration_s)
    at = [_read_at(path, counts, start_utc_s + second) for second in range(duration_s + 1)]
    return [after - before for before, after in pairwise(at)]


def median_read_mbps(path: Path, start_utc_s: float, duration_s: int) -> float:
    """Median over these seconds, Mbit/s. LocalError if the file does not cover them."""
    return to_mbps(median(per_second_read_bytes(path, start_utc_s, duration_s)))


def _read_until(path: Path, utc_s: float) -> list[Count]:
    """The counts, once they reach `utc_s`: the relay writes each line a moment after the time that it covers."""
    while True:
        now_s = time.time()
        counts = read_counts(path)
        if (counts and counts[-1].utc_s >= utc_s) or abs(now_s - utc_s) > PATIENCE_S:
            return counts
        time.sleep(POLL_S)


def _read_at(path: Path, counts: Sequence[Count], utc_s: float) -> float:
    index = bisect_left(counts, utc_s, key=lambda count: count.utc_s)
    if index == len(counts) or (index == 0 and counts[0].utc_s != utc_s):
        raise LocalError(f"counts file {path}: nothing was counted around {utc_s:.1f} (Unix time)")
    after = counts[index]
    if after.utc_s == utc_s:
        return after.read_bytes
    before = counts[index - 1]
    share = (utc_s - before.utc_s) / (after.utc_s - before.utc_s)
    return before.read_bytes + share * (after.read_bytes - before.read_bytes)
