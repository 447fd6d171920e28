"""docs/accuracy.svg: how errors are distributed, and how they depend on the rate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot

from benchmarks.accuracy.record import Measurement, Records, all_measurements
from flashflow.demo.report import MAX_COUNT_ERROR_PCT

PAPER_ERROR_PCT = 11.0
PAPER_SHARE = 0.95
"""The paper: 95 % of measurements within 11 %."""
matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "flashflow"
COLOURS = {"loop": "tab:blue", "echo": "tab:orange"}
MARKS = {"relay": "o", "link": "s", "none": "^"}


def plotted(path: Path, records: Records) -> None:
    """Draw it. The same figures make the same file."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    measurements = all_measurements(records)
    _draw_shares(left, measurements)
    _draw_errors(right, [one for one in measurements if one.failure is None])
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _draw_shares(axes: Any, measurements: Sequence[Measurement]) -> None:
    for mode, colour in COLOURS.items():
        errors = sorted(abs(one.error_pct) for one in measurements if one.mode == mode)
        if errors:
            axes.ecdf(errors, color=colour, label=f"{mode} ({len(errors)})")
    axes.plot([PAPER_ERROR_PCT], [PAPER_SHARE], "k*", markersize=10, label="paper: 95 % within 11 %")
    axes.plot([MAX_COUNT_ERROR_PCT], [0.99], "r*", markersize=10, label="goal: 99 % within 3 %")
    axes.set(
        xscale="symlog", xlim=(0, 100), ylim=(0, 1.02), xlabel="|error|, %", ylabel="share of measurements"
    )
    axes.set_xticks([0, 1, 3, 11, 100], ["0", "1", "3", "11", "100"])
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def _draw_errors(axes: Any, measurements: Sequence[Measurement]) -> None:
    for mode, colour in COLOURS.items():
        for limit, mark in MARKS.items():
            found = [one for one in measurements if (one.mode, one.limit) == (mode, limit)]
            if found:
                rates = [one.truth_mbps for one in found]
                label = f"{mode}, {'no limit' if limit == 'none' else f'{limit}-limited'}"
                axes.plot(rates, [one.error_pct for one in found], mark, color=colour, alpha=0.5, label=label)
    for bound in (-MAX_COUNT_ERROR_PCT, MAX_COUNT_ERROR_PCT):
        axes.axhline(bound, color="r", linewidth=0.8, linestyle="--")
    axes.set(xscale="log", xlabel="counted by somebody else, Mbit/s", ylabel="error, %")
    axes.grid(alpha=0.3)
    if measurements:
        axes.legend(fontsize="small")
