"""The demo of reference relays: one measurement after the other, v3bw, comparison with the relays' own counts."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from flashflow.ctrl.client import CtrlClient
from flashflow.demo.deployment import Deployment, RunningRelay
from flashflow.demo.plan import MEASURERS, Plan
from flashflow.demo.report import Row, complaints, make_row, notes, table
from flashflow.demo.stage import Finding, Outcome, explained, measured, read_v3bw, staged
from flashflow.demo.team import WARMUP_S
from flashflow.testnet.counts import median_read_mbps

SPARE_S = 60
"""Background traffic is told to last so much longer than a measurement; it is ended when that ends."""


def run_demo(plan: Plan, out: Path, console: Console, relay_command: Sequence[str] | None = None) -> Outcome:
    """Run the demo, show it on `console`, write OUT/demo.json and OUT/v3bw. Raises LocalError if it cannot."""

    def measure(work: Path) -> Finding:
        with Deployment(plan, work, relay_command) as deployment, explained(deployment, console):
            rows, v3bw = _measure_all(deployment, console)
        found = [line for row in rows for line in complaints(row, plan)]
        return Finding(rows, v3bw, table(rows, plan), notes(rows), found)

    return staged(plan, out, console, measure)


def _measure_all(deployment: Deployment, console: Console) -> tuple[list[Row], bytes]:
    with console.status("starting relays, coordinator and measurers"):
        deployment.start()
    console.out(_summary(deployment), highlight=False)
    with deployment.ctrl() as client:
        rows = [_measure(deployment, client, relay, console) for relay in deployment.relays]
        return rows, read_v3bw(client)


def _measure(deployment: Deployment, client: CtrlClient, relay: RunningRelay, console: Console) -> Row:
    plan = deployment.plan
    with ExitStack() as stack:
        if plan.background_percent:
            mbps = relay.rate_mbps * plan.background_percent / 100
            stack.enter_context(deployment.background(relay, mbps, plan.duration_s + SPARE_S))
        place = f"{deployment.relays.index(relay) + 1}/{len(deployment.relays)}"
        result = measured(client, console, relay, place)
    counted_mbps = median_read_mbps(relay.counts, result["active_utc_s"], plan.duration_s)
    return make_row(result, relay.rate_mbps, counted_mbps)


def _summary(deployment: Deployment) -> str:
    plan = deployment.plan
    background = f", {plan.background_percent:g} % background" if plan.background_percent else ""
    return (
        f"{len(deployment.relays)} relays, a coordinator and {len(MEASURERS)} measurers of {plan.measurer_mbps} Mbit/s"
        f" run on {plan.host}; each measurement counts {plan.duration_s} s after {WARMUP_S} s of warm-up{background}"
    )
