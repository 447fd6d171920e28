"""Building a day's schedule: the real Tor network, and made-up ones of up to 100,000 relays, with teams to match.

What is timed is all of it, from the relays of a consensus to their slots: estimates, groups, allocations, draws. Each
network is built in a process of its own, the best of three times; memory is that process's peak, with the relays and
the interpreter in it. The growth is drawn into docs/scheduling-growth.svg.
"""

import asyncio
import hashlib
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from coordinator.core.colocation import Kind, groups
from coordinator.core.estimate import candidates, estimates
from coordinator.core.params import Params
from coordinator.core.schedule import Schedule, Slots, Strategy
from flashflow.directory.files import load_relays
from flashflow.model.ids import Fingerprint
from flashflow.model.relay import RelayInfo
from flashflow.model.units import from_mbps
from flashflow.shell.parent import child_environment

ROOT = Path(__file__).resolve().parent.parent
CONSENSUS = ROOT / "tests/vectors/directory/consensus-2020-03-05-10-00-00.xz"
PLOT = ROOT / "docs/scheduling-growth.svg"
SIZES = (6_250, 12_500, 25_000, 50_000, 100_000)
TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Of the plot's axis of time."""
STRATEGIES: tuple[Strategy, ...] = ("uniform", "fastest")
MEASURERS = 3
MEASURER_MBPS = 1000
"""For the real network; larger ones have a team that is larger by as much."""
DAY_SLOTS = 2880
"""Of 30 s."""
REAL = 0
"""Instead of a size: the real network."""
LIMITS = {"real_cpu_s": 1.0, "real_peak_mb": 200.0, "largest_cpu_s": 20.0, "growth": 1.2}
"""Growth is the exponent: 1 is linear."""


def build(relays: list[RelayInfo], team: dict[str, int], strategy: Strategy, kind: Kind | None) -> Schedule:
    """All that happens at the begin of a period."""
    known = estimates(relays, {}, {}, {})
    wanted = candidates(known, {}, groups(relays, frozenset({kind} if kind else ())), Params())
    schedule = Schedule(Slots(DAY_SLOTS, bytes(32), strategy=strategy))
    schedule.build(wanted, team)
    return schedule


def network(size: int) -> list[RelayInfo]:
    """The real network, or `size` relays with the bandwidths of its relays in turn."""
    real = asyncio.run(load_relays(CONSENSUS, None))
    if size == REAL:
        return list(real)

    def made_up(number: int) -> RelayInfo:
        name = hashlib.sha1(b"%d" % number).hexdigest().upper()
        return replace(real[number * 7919 % len(real)], fingerprint=Fingerprint(name))

    return [made_up(number) for number in range(size)]


def one(size: int, strategy: Strategy, kind: Kind | None) -> dict[str, Any]:
    """Figures of one network, of this process."""
    relays = network(size)
    rate = from_mbps(MEASURER_MBPS * max(1.0, size / 6532))
    team = {f"m{number}": rate for number in range(MEASURERS)}
    took = []
    for _ in range(3):
        begun = time.process_time()
        schedule = build(relays, team, strategy, kind)
        took.append(time.process_time() - begun)
    if schedule.unplaced:
        raise RuntimeError(f"{len(schedule.unplaced)} of {len(relays)} relays found no slot")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"relays": len(relays), "cpu_s": round(min(took), 3), "peak_mb": round(peak_mb, 1)}


def apart(size: int, strategy: Strategy, kind: str = "none") -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.schedule", str(size), strategy, kind]
    done = subprocess.run(command, cwd=ROOT, env=child_environment(), stdout=subprocess.PIPE, check=True)
    return cast(dict[str, Any], json.loads(done.stdout))


def growth(points: list[dict[str, Any]]) -> float:
    """The exponent of CPU time over relays: the slope of a straight line through the logarithms."""
    sizes, times = ([point[key] for point in points] for key in ("relays", "cpu_s"))
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def draw(points: dict[str, list[dict[str, Any]]]) -> None:
    """The plot: CPU time over relays, with a straight line for comparison."""
    import matplotlib as mpl  # here, for only this needs it

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "scheduling-growth"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for (strategy, of_one), marker in zip(points.items(), "os", strict=True):
        sizes, times = ([point[key] for point in of_one] for key in ("relays", "cpu_s"))
        axes.plot(sizes, times, marker=marker, label=strategy)
    last = points["uniform"][-1]
    linear = [last["cpu_s"] * size / last["relays"] for size in SIZES]
    axes.plot(SIZES, linear, "--", color="grey", label="linear, for comparison")
    axes.set(xscale="log", yscale="log", xlabel="relays", ylabel="CPU time, s")
    axes.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
    axes.set_yticks(TICKS_S, [f"{tick:g}" for tick in TICKS_S])
    axes.minorticks_off()
    axes.set_title("Building the schedule of a day (2880 slots of 30 s)")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})


def measure() -> tuple[dict[str, Any], list[str]]:
    """The figures, and the limits missed."""
    real = {strategy: apart(REAL, strategy) for strategy in STRATEGIES}
    real["uniform, same prefix together"] = apart(REAL, "uniform", "prefix")
    synthetic = {strategy: [apart(size, strategy) for size in SIZES] for strategy in STRATEGIES}
    draw(synthetic)
    exponents = {strategy: round(growth(points), 3) for strategy, points in synthetic.items()}
    worst = {
        "real_cpu_s": max(figures["cpu_s"] for figures in real.values()),
        "real_peak_mb": max(figures["peak_mb"] for figures in real.values()),
        "largest_cpu_s": max(points[-1]["cpu_s"] for points in synthetic.values()),
        "growth": max(exponents.values()),
    }
    missed = [f"{name} {found} > {LIMITS[name]}" for name, found in worst.items() if found > LIMITS[name]]
    return {**worst, "real": real, "synthetic": synthetic}, missed


if __name__ == "__main__":
    size, strategy, kind = sys.argv[1:]
    chosen = None if kind == "none" else cast(Kind, kind)
    print(json.dumps(one(int(size), cast(Strategy, strategy), chosen)))
