"""Measures the groups, over the coordinator's control socket as a controller does."""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.accuracy import cpu
from benchmarks.accuracy.groups import Batch, Group, Limit
from benchmarks.accuracy.record import CpuFigures, Measurement
from benchmarks.accuracy.stages import Stage, Truth, staged, start
from flashflow.ctrl.client import CtrlClient
from flashflow.demo.report import percent_off
from flashflow.demo.stage import explained
from flashflow.model.units import to_mbps

SAFETY_S = 0.2
"""The recorders' last lines about a measurement are written by then."""


def measure_group(group: Group, duration_s: int) -> Iterator[list[Measurement]]:
    """Measure it, batch by batch. Raises FlashFlowError where the deployment cannot go on."""
    work = Path(tempfile.mkdtemp(prefix="flashflow-accuracy-", dir="/tmp"))  # sockets need a short path
    with staged(group, duration_s, work) as stage, explained(stage.team, Console(file=sys.stderr)):
        start(stage)
        for batch in group.batches:
            stage.prepare(batch)
            yield _measure_batch(stage, group, batch)
    shutil.rmtree(work, ignore_errors=True)


def _measure_batch(stage: Stage, group: Group, batch: Batch) -> list[Measurement]:
    """All of the batch at the same time, as far as the team has room."""
    with ExitStack() as stack:
        clients = [stack.enter_context(stage.ctrl()) for _ in batch]
        pool = stack.enter_context(ThreadPoolExecutor(len(batch)))
        watches = [_Watch(stage, limit) for limit in batch]
        results = list(pool.map(_Watch.follow, watches, clients))
    time.sleep(SAFETY_S)
    return [
        _measurement(stage, group, watch, result, len(batch))
        for watch, result in zip(watches, results, strict=True)
    ]


class _Watch:
    """One measurement, and CPU time during its seconds where the machine is the limit."""

    def __init__(self, stage: Stage, limit: Limit) -> None:
        self.limit = limit
        self._stage = stage
        self._relay = stage.relay(limit)
        self._samples: list[tuple[cpu.CpuSample, int]] = []

    def follow(self, client: CtrlClient) -> dict[str, Any]:
        """The result object, of a failed measurement too."""
        client.request("measure", self._relay.fingerprint, "wait")
        event: dict[str, Any] = {}
        for event in client.events():
            if event["event"] == "second" and self.limit is None:
                self._on_second(event)
        return event

    def figures(self) -> CpuFigures | None:
        """Who used the machine, but for the last second: far ends are gone when that is known."""
        if len(self._samples) < 3:
            return None
        begin, end = self._samples[0][0], self._samples[-2][0]
        read_bytes = sum(total for _, total in self._samples[1:-1])
        return cpu.figures(begin, end, read_bytes, self._relay.nickname)

    def _on_second(self, event: dict[str, Any]) -> None:
        self._samples.append((cpu.sample(self._stage.names()), event["total_bytes"]))


def _measurement(
    stage: Stage, group: Group, watch: _Watch, result: dict[str, Any], together: int
) -> Measurement:
    failed = result["outcome"] != "ok"
    truth = Truth(0.0, "nothing") if failed else stage.truth(watch.limit, result)
    measured_mbps = 0.0 if failed else to_mbps(result["result_bytes"])
    return Measurement(
        mode=group.mode,
        limit="none" if watch.limit is None else group.kind,
        limit_mbps=watch.limit,
        together=together,
        measured_mbps=round(measured_mbps, 3),
        truth_mbps=round(truth.mbps, 3),
        truth=truth.source,
        error_pct=round(percent_off(measured_mbps, truth.mbps), 3),
        failure=result["failure"]["reason"] if failed else None,
        cpu=watch.figures(),
    )
