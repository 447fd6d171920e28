"""What a stock tor counts: its `BW` events (control-spec 4.1.5), recorded by a process apart and read again.

`python -m flashflow.testnet.tornet_bw PLACE FILE [PLACE FILE …]` follows the tor whose control port is at each PLACE
and writes a JSON line for each second of it; it prints `ready` once all of them are followed.

tor counts the bytes of its sockets, TLS and all; a result of ours is cell bytes. A record of TLS 1.3 carries at most
16,384 bytes in 22 more (header 5, content type 1, tag 16: RFC 8446 5.2), and bulk senders fill their records, so

    cell bytes = tor's bytes * 16384 / 16406        (0.13 % less)

That is the least that there can be to take off: a record of one cell costs 4.3 %, one of ten cells 0.43 %, and what
else a relay reads (consensuses, padding, its own circuits) is still in.

tor's seconds begin when they like. Where what it reads changes much from one to the next, say on a busy machine, their
median need not be that of a measurement's seconds, however right both are. So the counter that the events are made of
(GETINFO traffic/read) is read ten times a second as well, into FILE.counts, which `flashflow.testnet.counts` reads.
"""

import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import stem
import stem.control

from flashflow.model.errors import LocalError
from flashflow.model.units import to_mbps
from flashflow.shell.parent import follow_parent
from flashflow.shell.torcontrol import ControlPlace, close_controller, open_controller, parse_place
from flashflow.testnet.counts import median_read_mbps

RECORD_BYTES: Final = 16_384
RECORD_OVERHEAD_BYTES: Final = 22
CELL_SHARE: Final = RECORD_BYTES / (RECORD_BYTES + RECORD_OVERHEAD_BYTES)
"""Cell bytes in a byte that tor counted, at most."""
SLACK_S: Final = 0.05
"""An event may reach us so much late without being of another second."""
CONNECT_S: Final = 10.0
COUNTER_S: Final = 0.1
"""Wait between two readings of the counter."""


@dataclass(frozen=True, slots=True)
class BwSecond:
    """One `BW` event: what tor moved in the second before it."""

    utc_s: float
    """When it arrived, Unix time."""
    monotonic_s: float
    """When it arrived, by the monotonic clock."""
    read_bytes: int
    """Read from its sockets, TLS bytes."""
    written_bytes: int
    """Written to its sockets, TLS bytes."""


@dataclass(frozen=True, slots=True)
class BwMedian:
    """The read side of a measurement's seconds, by tor's own count."""

    raw_mbps: float
    """As tor counts it, TLS bytes."""
    cell_mbps: float
    """As cell bytes: times CELL_SHARE."""
    seconds: int
    """How many whole seconds of tor's lay within the measurement."""
    spread: float
    """Of these seconds, the greatest less the least, over the median."""
    counter_mbps: float
    """Median over the measurement's own seconds of what tor's counter grew by, as cell bytes."""


def recorder_command(records: Mapping[Path, ControlPlace]) -> list[str]:
    """The command line of a recorder: file -> control port."""
    pairs = [word for path, place in records.items() for word in (str(place), str(path))]
    return [sys.executable, "-m", "flashflow.testnet.tornet_bw", *pairs]


def counts_path(path: Path) -> Path:
    """Where the counter's readings are, beside the BW events in `path`."""
    return path.with_name(f"{path.name}.counts")


def read_bw(path: Path) -> list[BwSecond]:
    """A recorder's file, in order; half a line at its end is left out. LocalError if it is something else."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"{path}: cannot read the BW events: {error}") from error
    return [_parse(path, number, line) for number, line in enumerate(lines[:-1], start=1)]


def median_bw_read_mbps(path: Path, active_utc_s: float, duration_s: int) -> BwMedian:
    """Median of what tor read in each of its seconds that lie within the measurement's.

    tor's seconds begin when they like, so there are `duration_s` or one less. LocalError if more are missing.
    """
    first_s, last_s = active_utc_s + 1 - SLACK_S, active_utc_s + duration_s + SLACK_S
    read = [second.read_bytes for second in read_bw(path) if first_s <= second.utc_s <= last_s]
    if len(read) < max(1, duration_s - 1):
        raise LocalError(
            f"{path}: {len(read)} BW events from {active_utc_s:.1f} (Unix time) on, {duration_s} s expected"
        )
    raw = median(read)
    return BwMedian(
        raw_mbps=to_mbps(raw),
        cell_mbps=to_mbps(raw) * CELL_SHARE,
        seconds=len(read),
        spread=(max(read) - min(read)) / raw if raw else 0.0,
        counter_mbps=median_read_mbps(counts_path(path), active_utc_s, duration_s) * CELL_SHARE,
    )


def _parse(path: Path, number: int, line: str) -> BwSecond:
    try:
        value = json.loads(line)
        read_bytes, written_bytes = int(value["read_bytes"]), int(value["written_bytes"])
        return BwSecond(float(value["utc_s"]), float(value["monotonic_s"]), read_bytes, written_bytes)
    except (ValueError, KeyError, TypeError) as error:
        raise LocalError(f"{path}, line {number}: {line[:60]!r} is no BW event") from error


def _writer(path: Path) -> Callable[[Any], None]:
    """A listener, called in a thread of stem's own; stem's `arrived_at` is in whole seconds only."""

    def write(event: Any) -> None:
        line = {
            "utc_s": round(time.time(), 6),
            "monotonic_s": round(time.monotonic(), 6),
            "read_bytes": event.read,
            "written_bytes": event.written,
        }
        with path.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")

    return write


class _Follower:
    """Records one tor."""

    def __init__(self, place: str, path: Path) -> None:
        """Raises LocalError."""
        path.write_bytes(b"")
        self._counts = counts_path(path)
        self._controller = open_controller(parse_place(place), wait_s=CONNECT_S)
        self._controller.add_event_listener(_writer(path), stem.control.EventType.BW)

    def read_counter(self) -> None:
        """Add a reading, unless this tor has ended."""
        before_s = time.time()
        try:
            total = self._controller.get_info(["traffic/read", "traffic/written"])
        except stem.ControllerError:
            return
        line = {
            "utc_s": round((before_s + time.time()) / 2, 6),
            "read_bytes": int(total["traffic/read"]),
            "written_bytes": int(total["traffic/written"]),
        }
        with self._counts.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Stop following."""
        close_controller(self._controller)


def main(words: list[str]) -> int:
    """Record until SIGTERM."""
    follow_parent()
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with ExitStack() as stack:
        followers = []
        try:
            for place, path in zip(words[::2], words[1::2], strict=True):
                followers.append(_Follower(place, Path(path)))
                stack.callback(followers[-1].close)
        except LocalError as error:
            print(f"error: {error.reason}", file=sys.stderr)
            return error.exit_status
        print("ready", flush=True)
        while signal.sigtimedwait(ends, COUNTER_S) is None:
            for follower in followers:
                follower.read_counter()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
