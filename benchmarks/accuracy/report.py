"""The generated parts of docs/accuracy.md: tables, each between two marks."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np

from benchmarks.accuracy.judge import complaints, described, is_within, spread_pct, spread_runs
from benchmarks.accuracy.record import CpuFigures, Measurement, Records, all_measurements

QUANTILES = (50, 90, 95, 99, 100)
PAPER = "| the paper: 95 % within 11 % | | | | 11 | | | |"


def reported(page: str, records: Records) -> str:
    """The page with its generated parts made anew. ValueError if it lacks a mark."""
    for name, make in PARTS.items():
        pattern = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        part = f"{make(records)}\n".replace("\\", r"\\")
        page, found = pattern.subn(rf"\g<1>{part}\g<2>", page)
        if found != 1:
            raise ValueError(f"docs/accuracy.md: expected <!-- {name} --> and <!-- /{name} --> once")
    return page


def _verdict(records: Records) -> str:
    found = complaints(records)
    measurements = all_measurements(records)
    within = sum(map(is_within, measurements))
    head = f"**{within} of {len(measurements)} measurements are within 3 %.**"
    return "\n".join([head, "", "The goal is missed:" if found else "The goal is met.", *_listed(found)])


def _listed(found: Sequence[str]) -> list[str]:
    return ["", *(f"- {line.strip()}" for line in found)] if found else []


def _distribution(records: Records) -> str:
    every = all_measurements(records)
    rows = [
        "| \\|error\\| at quantile, % | n | p50 | p90 | p95 | p99 | max | within 3 % |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        _quantiles("**all**", every),
    ]
    for mode in ("loop", "echo"):
        rows.append(_quantiles(f"{mode} mode", [one for one in every if one.mode == mode]))
    sources = Counter(one.truth for one in every if one.failure is None)
    told = ", ".join(f"{source} ({count})" for source, count in sources.most_common())
    return "\n".join([*rows, PAPER, "", f"Compared with: {told}."])


def _quantiles(name: str, measurements: Sequence[Measurement]) -> str:
    if not measurements:
        return f"| {name} | 0 | | | | | | |"
    values = np.percentile([abs(one.error_pct) for one in measurements], QUANTILES)
    within = 100 * sum(map(is_within, measurements)) / len(measurements)
    return f"| {name} | {len(measurements)} | {' | '.join(f'{one:.2f}' for one in values)} | {within:.1f} % |"


def _limits(records: Records) -> str:
    rows = [
        "| group | limit, Mbit/s | n | counted, median | measured, median | error, median | least | most |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, record in records.items():
        by_limit: dict[float | None, list[Measurement]] = {}
        for one in record.measurements:
            by_limit.setdefault(one.limit_mbps, []).append(one)
        rows += [_limit_row(name, limit, by_limit[limit]) for limit in sorted(by_limit, key=_order)]
    return "\n".join(rows)


def _order(limit: float | None) -> float:
    return float("inf") if limit is None else limit


def _limit_row(name: str, limit: float | None, measurements: Sequence[Measurement]) -> str:
    good = [one for one in measurements if one.failure is None]
    failed = f" ({len(measurements) - len(good)} failed)" if len(good) < len(measurements) else ""
    head = f"| {name} | {'none' if limit is None else f'{limit:g}'} | {len(measurements)}{failed} |"
    if not good:
        return f"{head} | | | | |"
    errors = [one.error_pct for one in good]
    counted, measured = (
        median(one.truth_mbps for one in good),
        median(one.measured_mbps for one in good),
    )
    figures = f"{counted:.2f} | {measured:.2f} | {median(errors):+.2f} % | {min(errors):+.2f} % | {max(errors):+.2f} %"
    return f"{head} {figures} |"


def _spread(records: Records) -> str:
    rows = ["| relay at 40 Mbit/s in group | runs | least | median | most | (p95 - p5)/median |"]
    rows.append("|---|--:|--:|--:|--:|--:|")
    for name, results in spread_runs(records).items():
        values = f"{min(results):.2f} | {median(results):.2f} | {max(results):.2f}"
        rows.append(f"| {name} | {len(results)} | {values} | {spread_pct(results):.2f} % |")
    return "\n".join(rows)


def _cpu(records: Records) -> str:
    """The measurement of median speed of each group that has one without a limit."""
    parts = []
    for name, record in records.items():
        timed = sorted(
            (one for one in record.measurements if one.cpu is not None), key=lambda one: one.measured_mbps
        )
        if timed:
            one = timed[len(timed) // 2]
            assert one.cpu is not None
            parts.append(_cpu_table(name, one, one.cpu))
    return "\n\n".join(parts)


def _cpu_table(name: str, one: Measurement, figures: CpuFigures) -> str:
    gigabytes = figures.relay_read_bytes / 1e9
    rows = [
        f"{name}: {one.measured_mbps:.0f} Mbit/s over {figures.wall_s:.0f} s, {gigabytes:.2f} GB of cells read by the relay.",
        "",
        "| process | of a core | its busiest thread ran | ran or waited to | CPU-seconds per GB |",
        "|---|--:|--:|--:|--:|",
    ]
    for use in figures.uses:
        times_s = (use.cpu_s, use.busiest_thread_s, use.busiest_thread_wanted_s)
        shares = " | ".join("" if used_s is None else f"{used_s / figures.wall_s:.0%}" for used_s in times_s)
        rows.append(f"| {use.process} | {shares} | {use.cpu_s / gigabytes:.2f} |")
    relay, *others = figures.uses
    ours_s = sum(use.cpu_s for use in others)
    rows.append(
        f"| **all but {relay.process}** | {ours_s / figures.wall_s:.0%} | | | {ours_s / gigabytes:.2f} |"
    )
    return "\n".join(rows)


def _runs(records: Records) -> str:
    rows = [
        "| group | begun (UTC) | seconds counted | min | commit | tor | machine |",
        "|---|---|--:|--:|---|---|---|",
    ]
    for name, record in records.items():
        machine = f"{record.cpus} x {record.machine}"
        values = f"{record.utc[:16]} | {record.duration_s} | {record.elapsed_s / 60:.1f} | {record.commit}"
        rows.append(f"| {name} | {values} | {record.tor} | {machine} |")
    return "\n".join(rows)


def _missed(records: Records) -> str:
    missed = [one for one in all_measurements(records) if not is_within(one)]
    return "\n".join(f"- {described(one)}" for one in missed) or "None."


PARTS: Mapping[str, Callable[[Records], str]] = {
    "verdict": _verdict,
    "distribution": _distribution,
    "limits": _limits,
    "missed": _missed,
    "spread": _spread,
    "cpu": _cpu,
    "runs": _runs,
}
"""By the name in the page's marks."""
