"""`make accuracy`: measures, keeps the figures in benchmarks/accuracy.json, writes the report, judges (exit status)."""

import argparse
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.__main__ import commit, cpu_model
from benchmarks.accuracy.groups import GROUPS, Group, chosen, expected_s, shortened
from benchmarks.accuracy.judge import complaints, described
from benchmarks.accuracy.plot import plotted
from benchmarks.accuracy.record import GroupRecord, Measurement, read_records, write_records
from benchmarks.accuracy.report import reported
from benchmarks.accuracy.run import measure_group
from flashflow.model.errors import FlashFlowError
from flashflow.testnet.tornet_node import find_program

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "accuracy.json"
PAGE = ROOT / "docs" / "accuracy.md"
PLOT = ROOT / "docs" / "accuracy.svg"


def main(argv: list[str]) -> int:
    """Exit status: 0 if the goal is met, 1 if it is missed, 2 for a wrong command line."""
    options = _options(argv)
    try:
        groups = [shortened(group, options.rounds) for group in chosen(options.groups)]
        records = read_records(options.out)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for group in [] if options.report else groups:
        _measure(group, options.duration, options.out)
        records = read_records(options.out)
    if options.out == RESULTS:
        PAGE.write_text(reported(PAGE.read_text(), records))
        plotted(PLOT, records)
    found = complaints(records)
    print("\n".join(found) or "the goal is met", file=sys.stderr if found else sys.stdout)
    return 1 if found else 0


def _options(argv: list[str]) -> argparse.Namespace:
    names = ", ".join(group.name for group in GROUPS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--groups", type=_names, default=[], help=f"some of {names}; all if not given")
    parser.add_argument("--duration", type=int, default=30, help="seconds that each measurement counts")
    parser.add_argument("--rounds", type=int, default=1000, help="at most so many measurements of each limit")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the file that keeps the figures")
    parser.add_argument("--report", action="store_true", help="measure nothing: report and judge")
    return parser.parse_args(argv)


def _names(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _measure(group: Group, duration_s: int, out: Path) -> None:
    """Measure one group; the file is brought up to date after each batch."""
    print(f"{group.name}: {group.count} measurements, about {expected_s(group, duration_s) / 60:.0f} min")
    started_s, utc = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    measurements: list[Measurement] = []

    def keep(problem: str | None) -> None:
        record = GroupRecord(
            commit=commit(),
            machine=cpu_model(),
            cpus=os.cpu_count() or 1,
            tor=_tor_version(),
            utc=utc,
            duration_s=duration_s,
            elapsed_s=round(time.monotonic() - started_s, 1),
            problem=problem,
            measurements=tuple(measurements),
        )
        write_records(out, {**read_records(out), group.name: record})

    problem: str | None = "interrupted"
    try:
        for batch in measure_group(group, duration_s):
            measurements += batch
            for one in batch:
                print(f"{group.name} {len(measurements)}/{group.count}: {described(one)}", flush=True)
            keep("interrupted")
        problem = None
    except FlashFlowError as error:
        problem = error.reason
    finally:
        keep(problem)


def _tor_version() -> str:
    try:
        said = subprocess.run([find_program("tor"), "--version"], capture_output=True, text=True)
    except FlashFlowError:
        return "none"
    return said.stdout.partition("\n")[0].removeprefix("Tor version ").rstrip(".")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
