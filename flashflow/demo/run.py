"""A demo from start to end: deployment, one measurement after the other, v3bw, comparison."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from flashflow.ctrl.client import CtrlClient
from flashflow.ctrl.progress import follow
from flashflow.ctrl.show import result_line
from flashflow.ctrl.tables import print_table
from flashflow.demo.child import Child, ChildFailedError
from flashflow.demo.deployment import WARMUP_S, Deployment, RunningRelay
from flashflow.demo.plan import MEASURERS, Plan
from flashflow.demo.report import Row, complaints, document, make_row, notes, table
from flashflow.model.errors import FlashFlowError, LocalError, NetworkError, UsageError
from flashflow.testnet.counts import median_read_mbps

SPARE_S = 60
"""Background traffic is told to last so much longer than a measurement; it is ended when that ends."""
DYING_S = 5.0
"""A coordinator whose connection broke may be about to end: its log tells more then."""


class MeasurementFailedError(FlashFlowError):
    """The coordinator reported a failed measurement."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a demo that ran to its end found."""

    document: dict[str, Any]
    """The content of demo.json."""
    complaints: list[str]
    """What is wrong with the figures, a line each."""


def run_demo(plan: Plan, out: Path, console: Console, relay_command: Sequence[str] | None = None) -> Outcome:
    """Run the demo, show it on `console`, write OUT/demo.json and OUT/v3bw. Raises LocalError if it cannot."""
    started_s = time.monotonic()
    out = _make_folder(out)
    work = _make_work_folder()
    try:
        with Deployment(plan, work, relay_command) as deployment:
            rows, v3bw = _measure_all(deployment, console)
            _replace(out / "v3bw", v3bw)
    except (KeyboardInterrupt, SystemExit):
        shutil.rmtree(work, ignore_errors=True)
        raise
    found = [line for row in rows for line in complaints(row, plan)]
    content = document(rows, plan, str(out / "v3bw"), time.monotonic() - started_s)
    _replace(out / "demo.json", (json.dumps(content, indent=2) + "\n").encode())
    print_table(table(rows, plan), console)
    for line in [*notes(rows), *found]:
        console.out(line, highlight=False)
    _end_folder(work, console, keep=bool(found))
    return Outcome(content, found)


def _measure_all(deployment: Deployment, console: Console) -> tuple[list[Row], bytes]:
    """Rows and v3bw file; if it fails, the logs that tell why are shown first."""
    try:
        with console.status("starting relays, coordinator and measurers"):
            deployment.start()
        console.out(_summary(deployment), highlight=False)
        with deployment.ctrl() as client:
            rows = [_measure(deployment, client, relay, console) for relay in deployment.relays]
            return rows, _read_v3bw(client)
    except FlashFlowError as error:
        if isinstance(error, NetworkError):
            deployment.child("coordinator").wait(DYING_S)
        dead = deployment.dead()
        for child in dead or _to_blame(deployment, error):
            console.out(f"--- the end of {child.name}'s log:", child.tail(), "---", sep="\n", highlight=False)
        ended = "; ".join(f"{child.name} ended with status {child.returncode}" for child in dead)
        reason = (
            error.reason if isinstance(error, ChildFailedError) or not dead else f"{ended}: {error.reason}"
        )
        raise LocalError(f"{reason} (everything is kept in {deployment.folder})") from None


def _measure(deployment: Deployment, client: CtrlClient, relay: RunningRelay, console: Console) -> Row:
    plan = deployment.plan
    with ExitStack() as stack:
        if plan.background_percent:
            mbps = relay.rate_mbps * plan.background_percent / 100
            stack.enter_context(deployment.background(relay, mbps, plan.duration_s + SPARE_S))
        client.request("measure", relay.fingerprint, "wait")
        title = f"{relay.nickname} ({deployment.relays.index(relay) + 1}/{len(deployment.relays)})"
        result = follow(client.events(), console, title)
    console.out(result_line(result), highlight=False)
    if result["outcome"] != "ok":
        raise MeasurementFailedError(
            f"the measurement of {relay.nickname} failed: {result['failure']['reason']}"
        )
    counted_mbps = median_read_mbps(relay.counts, result["active_utc_s"], plan.duration_s)
    return make_row(result, relay.rate_mbps, counted_mbps)


def _read_v3bw(client: CtrlClient) -> bytes:
    path = Path(client.request("v3bw")["path"])
    try:
        return path.read_bytes()
    except OSError as error:
        raise LocalError(f"{path}: cannot read the v3bw file: {error.strerror}") from None


def _to_blame(deployment: Deployment, error: FlashFlowError) -> list[Child]:
    """Who can tell most about a failure that no process died of."""
    if isinstance(error, ChildFailedError):
        return [error.child]
    return [child for child in deployment.children if child.name == "coordinator"]


def _summary(deployment: Deployment) -> str:
    plan = deployment.plan
    background = f", {plan.background_percent:g} % background" if plan.background_percent else ""
    return (
        f"{len(deployment.relays)} relays, a coordinator and {len(MEASURERS)} measurers of {plan.measurer_mbps} Mbit/s"
        f" run on {plan.host}; each measurement counts {plan.duration_s} s after {WARMUP_S} s of warm-up{background}"
    )


def _make_work_folder() -> Path:
    """In TMPDIR, unless that is too long for the Unix sockets in it (107 bytes, unix(7))."""
    parent = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="flashflow-demo-", dir=parent if len(parent) <= 60 else "/tmp"))


def _make_folder(path: Path) -> Path:
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {path}: cannot make this folder: {error.strerror}") from None
    return path


def _replace(path: Path, content: bytes) -> None:
    """Write `path` in one step: another demo may use the same folder."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        new.write_bytes(content)
        new.replace(path)
    except OSError as error:
        raise LocalError(f"{path}: cannot be written: {error.strerror}") from None


def _end_folder(work: Path, console: Console, *, keep: bool) -> None:
    if keep:
        console.out(f"everything is kept in {work}", highlight=False)
    else:
        shutil.rmtree(work, ignore_errors=True)
