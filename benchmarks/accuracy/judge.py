"""Whether the goal is met: 99 % of at least 100 measurements within 3 %, and ten runs of one relay close together."""

from collections.abc import Sequence
from math import ceil

import numpy as np

from benchmarks.accuracy.record import Measurement, Records, all_measurements
from flashflow.demo.report import MAX_COUNT_ERROR_PCT

LEAST_COUNT = 100
GOAL_PCT = 99
SPREAD_MBPS = 40.0
"""The relay whose results are compared with each other."""
SPREAD_COUNT = 10
MAX_SPREAD_PCT = 5.0
BUSY = 0.95
"""Share of the time for which the thread that is the limit runs, or waits for a core."""


def is_within(one: Measurement) -> bool:
    """Whether it succeeded and is no farther from the truth than the goal allows."""
    return one.failure is None and abs(one.error_pct) <= MAX_COUNT_ERROR_PCT


def described(one: Measurement) -> str:
    """One measurement in a line."""
    limit = "unlimited" if one.limit_mbps is None else f"{one.limit}-limited {one.limit_mbps:g} Mbit/s"
    if one.failure is not None:
        return f"{one.mode}, {limit}: failed: {one.failure}"
    company = f", {one.together} at once" if one.together > 1 else ""
    return (
        f"{one.mode}, {limit}{company}: measured {one.measured_mbps:.2f}, counted {one.truth_mbps:.2f}"
        f" ({one.truth}), {one.error_pct:+.2f} %"
    )


def spread_pct(results_mbps: Sequence[float]) -> float:
    """(p95 - p5) / median, percent."""
    p5, p50, p95 = np.percentile(results_mbps, (5, 50, 95))
    return float(100 * (p95 - p5) / p50)


def spread_runs(records: Records) -> dict[str, list[float]]:
    """The results of the relay at 40 Mbit/s, by group, where one has ten of them or more."""
    runs = {
        name: [
            one.measured_mbps
            for one in record.measurements
            if one.limit == "relay" and one.limit_mbps == SPREAD_MBPS and one.failure is None
        ]
        for name, record in records.items()
    }
    return {name: results for name, results in runs.items() if len(results) >= SPREAD_COUNT}


def complaints(records: Records) -> list[str]:
    """How the goal is missed, a line each; nothing if it is met."""
    found = [f"{name}: ended early: {record.problem}" for name, record in records.items() if record.problem]
    return [*found, *_errors(all_measurements(records)), *_spreads(records), *_bottlenecks(records)]


def _errors(measurements: Sequence[Measurement]) -> list[str]:
    count = len(measurements)
    missed = [one for one in measurements if not is_within(one)]
    found = [] if count >= LEAST_COUNT else [f"{count} measurements, at least {LEAST_COUNT} expected"]
    if count - len(missed) < ceil(count * GOAL_PCT / 100):
        found.append(
            f"{count - len(missed)} of {count} measurements are within {MAX_COUNT_ERROR_PCT:g} %,"
            f" {GOAL_PCT} % expected; those that are not:"
        )
        found += [f"  {described(one)}" for one in missed]
    return found


def _spreads(records: Records) -> list[str]:
    spreads = {name: spread_pct(results) for name, results in spread_runs(records).items()}
    found = [
        f"{name}: results of the relay at {SPREAD_MBPS:g} Mbit/s spread by {spread:.2f} %,"
        f" at most {MAX_SPREAD_PCT:g} % expected"
        for name, spread in spreads.items()
        if spread > MAX_SPREAD_PCT
    ]
    if not spreads:
        found.append(f"no relay at {SPREAD_MBPS:g} Mbit/s was measured {SPREAD_COUNT} times")
    return found


def _bottlenecks(records: Records) -> list[str]:
    """Where an unlimited relay was not the limit itself."""
    timed = [one for one in all_measurements(records) if one.cpu is not None and one.failure is None]
    return [line for one in timed for line in _not_the_limit(one)]


def _not_the_limit(one: Measurement) -> list[str]:
    assert one.cpu is not None  # timed
    busy = [(use.busiest_thread_wanted_s or 0.0) / one.cpu.wall_s for use in one.cpu.uses]
    found = []
    if busy[0] < BUSY:
        found.append(f"{described(one)}: the relay's busiest thread wanted a core {busy[0]:.0%} of the time")
    found += [
        f"{described(one)}: {use.process} wanted a core {share:.0%} of the time"
        for use, share in zip(one.cpu.uses[1:], busy[1:], strict=True)
        if share >= BUSY
    ]
    return found
