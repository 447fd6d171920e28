"""Who uses the machine: CPU time of every process of a deployment, between two moments."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.accuracy.record import CpuFigures, CpuUse

LEAST_CPU_S = 0.1
"""Processes that used less are put together."""
KINDS = (
    ("flashflow.torclient.workers", "worker"),
    ("--far-end", "far end"),
    ("torclient", "torclient"),
    ("--defaults-torrc", "tor"),
)
"""What a process' command line has in it, and what it is called, beside the name of the one that started it."""


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds that one process has used since it began."""

    process: str
    """Which it is."""
    cpu_s: float
    """All of it."""
    threads_s: Mapping[int, tuple[float, float]]
    """By thread: the same, and the seconds for which it could have run but no core was free."""


@dataclass(frozen=True, slots=True)
class CpuSample:
    """What every process has used."""

    mono_s: float
    """When."""
    used: Mapping[int, Used]
    """By process id."""


def sample(names: Mapping[int, str]) -> CpuSample:
    """This process and all that come from it. `names` says what those are that are known by process id."""
    used = {}
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        try:
            name = "accuracy" if process.pid == own.pid else _name(process, names)
            threads_s = {one.id: _ran_and_waited_s(process.pid, one.id) for one in process.threads()}
            times = process.cpu_times()
            used[process.pid] = Used(name, times.user + times.system, threads_s)
        except (psutil.NoSuchProcess, OSError):
            continue
    return CpuSample(time.monotonic(), used)


def figures(begin: CpuSample, end: CpuSample, relay_read_bytes: int, relay: str) -> CpuFigures:
    """What was used between two samples, the process called `relay` first."""
    uses = [
        CpuUse(after.process, round(_since(begin, pid, after), 2), *_busiest_s(begin, pid, after))
        for pid, after in end.used.items()
    ]
    listed = sorted(
        (use for use in uses if use.cpu_s >= LEAST_CPU_S), key=lambda use: (use.process != relay, -use.cpu_s)
    )
    others_s = sum(use.cpu_s for use in uses if use.cpu_s < LEAST_CPU_S)
    if others_s:
        listed.append(CpuUse("all others", round(others_s, 2), 0.0))
    return CpuFigures(round(end.mono_s - begin.mono_s, 2), relay_read_bytes, tuple(listed))


def _since(begin: CpuSample, pid: int, after: Used) -> float:
    before = begin.used.get(pid)
    return after.cpu_s - (before.cpu_s if before else 0.0)


def _busiest_s(begin: CpuSample, pid: int, after: Used) -> tuple[float, float]:
    """Of the thread that ran most: how long it ran, and how long it ran or waited for a core."""
    before = begin.used.get(pid)
    threads_s = before.threads_s if before else {}
    used = []
    for thread, (cpu_s, waited_s) in after.threads_s.items():
        cpu_before_s, waited_before_s = threads_s.get(thread, (0.0, 0.0))
        ran_s = cpu_s - cpu_before_s
        used.append((round(ran_s, 2), round(ran_s + waited_s - waited_before_s, 2)))
    return max(used, default=(0.0, 0.0))


def _ran_and_waited_s(pid: int, thread: int) -> tuple[float, float]:
    """How long it had a core, and was kept waiting for one (proc(5), schedstat: nanoseconds)."""
    ran, waited, _ = Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


def _name(process: psutil.Process, names: Mapping[int, str]) -> str:
    if process.pid in names:
        return names[process.pid]
    owner = next((names[parent.pid] for parent in process.parents() if parent.pid in names), "accuracy")
    words = process.cmdline()
    kind = next((kind for mark, kind in KINDS if any(mark in word for word in words)), process.name())
    return f"{owner}'s {kind}"
