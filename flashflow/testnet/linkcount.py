"""What an interface counted, recorded by a process apart and read again.

`python -m flashflow.testnet.linkcount DEVICE FILE` writes a JSON line twenty times a second: the kernel's counters of
DEVICE in the namespace that it runs in. It prints `ready` once the first is written, and ends with SIGTERM.

The interface counts Ethernet frames; a result of ours is cell bytes. docs/links.md has the formula and why.

    payload = bytes received - 66 * packets received
    cells   = payload * 16384 / 16406
"""

import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flashflow.model.errors import LocalError
from flashflow.model.units import to_mbps
from flashflow.shell.parent import follow_parent
from flashflow.testnet.counts import PATIENCE_S
from flashflow.testnet.tornet_bw import CELL_SHARE

HEADER_BYTES: Final = 14 + 20 + 32
"""Ethernet, IPv4, and TCP with its timestamp option, in every packet; a packet of 66 bytes is a mere acknowledgement."""
SAMPLE_S: Final = 0.05
COUNTERS: Final = Path("/proc/net/dev")
PROTOCOL_COUNTERS: Final = Path("/proc/net/netstat")
_RECEIVED_TWICE: Final = ("TCPDSACKOldSent", "TCPDSACKOfoSent")
_KEYS: Final = (
    "utc_s",
    "read_bytes",
    "read_packets",
    "written_bytes",
    "written_packets",
    "segments_twice",
)


@dataclass(frozen=True, slots=True)
class LinkFigure:
    """What came in at an interface: medians over the seconds asked for."""

    raw_mbps: float
    """As the interface counts it: Ethernet frames without check sequence."""
    payload_mbps: float
    """Less the headers of every packet: TLS bytes."""
    cell_mbps: float
    """As cell bytes, at most: times CELL_SHARE."""
    packets_per_s: float
    """Packets, mere acknowledgements among them."""
    segments_twice: int
    """TCP segments over all the seconds that this end had already and reported as such (RFC 2883): counted twice above."""
    per_second_cell_mbps: tuple[float, ...]
    """`cell_mbps` of each second."""


def read_link(path: Path, begin_utc_s: float, seconds: int) -> LinkFigure:
    """What the interface received in the `seconds` from `begin_utc_s` on. LocalError if the record does not cover them."""
    record = _read_until(path, begin_utc_s + seconds)
    times_s = record[0]
    if not (times_s.size and times_s[0] <= begin_utc_s and begin_utc_s + seconds <= times_s[-1]):
        raise LocalError(f"{path}: does not cover the {seconds} s from {begin_utc_s:.1f} (Unix time) on")
    at_s = begin_utc_s + np.arange(seconds + 1)
    raw, packets = (np.diff(np.interp(at_s, times_s, record[row])) for row in (1, 2))
    payload = raw - HEADER_BYTES * packets
    twice = np.interp(at_s[[0, -1]], times_s, record[5])
    cells = [to_mbps(second) * CELL_SHARE for second in payload.tolist()]
    return LinkFigure(
        raw_mbps=to_mbps(float(np.median(raw))),
        payload_mbps=to_mbps(float(np.median(payload))),
        cell_mbps=median(cells),
        packets_per_s=float(np.median(packets)),
        segments_twice=round(float(twice[1] - twice[0])),
        per_second_cell_mbps=tuple(cells),
    )


def _read_until(path: Path, utc_s: float) -> NDArray[np.float64]:
    """The record, once it reaches `utc_s`, if that was just now: the next reading may still come."""
    while True:
        now_s = time.time()
        record = _read(path)
        if (record[0].size and record[0][-1] >= utc_s) or abs(now_s - utc_s) > PATIENCE_S:
            return record
        time.sleep(SAMPLE_S)


def _read(path: Path) -> NDArray[np.float64]:
    """A row for each of _KEYS; half a line at the end is left out."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise LocalError(f"{path}: cannot read the link's record: {error}") from error
    return (
        np.array([_parse(path, n, line) for n, line in enumerate(lines, start=1)], float)
        .reshape(-1, len(_KEYS))
        .T
    )


def _parse(path: Path, number: int, line: str) -> list[float]:
    try:
        value = json.loads(line)
        return [float(value[key]) for key in _KEYS]
    except (ValueError, KeyError, TypeError) as error:
        raise LocalError(f"{path}, line {number}: {line[:60]!r} is no reading of counters") from error


def parse_device(text: str, device: str) -> dict[str, int]:
    """The counters of `device` in the text of /proc/net/dev (proc(5)). LocalError if it is not there."""
    for line in text.splitlines():
        name, colon, values = line.partition(":")
        if colon and name.strip() == device:
            counts = [int(word) for word in values.split()]
            return dict(zip(_KEYS[1:5], (counts[0], counts[1], counts[8], counts[9]), strict=True))
    raise LocalError(f"{COUNTERS}: no interface {device}")


def parse_segments_twice(text: str) -> int:
    """The segments received twice, in the text of /proc/net/netstat: lines of names, each before one of values."""
    lines = [line.split() for line in text.splitlines() if line.startswith("TcpExt:")]
    values = dict(zip(lines[0], lines[1], strict=True)) if len(lines) == 2 else {}
    return sum(int(values.get(name, 0)) for name in _RECEIVED_TWICE)


def _reading(device: str) -> dict[str, float]:
    found = parse_device(COUNTERS.read_text(), device)
    utc_s = round(time.time(), 6)
    return {"utc_s": utc_s, **found, "segments_twice": parse_segments_twice(PROTOCOL_COUNTERS.read_text())}


def main(words: list[str]) -> int:
    """Record until SIGTERM."""
    follow_parent()
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    device, path = words
    try:
        with Path(path).open("w", encoding="utf-8", buffering=1) as out:
            out.write(json.dumps(_reading(device)) + "\n")
            print("ready", flush=True)
            while signal.sigtimedwait(ends, SAMPLE_S) is None:
                out.write(json.dumps(_reading(device)) + "\n")
    except OSError as error:
        print(f"error: {path}: {error.strerror}", file=sys.stderr)
        return 1
    except LocalError as error:
        print(f"error: {error.reason}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
