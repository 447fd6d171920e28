"""The demo of the schedule: nobody asks for a measurement; while the period runs one relay joins, and one leaves."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from flashflow.ctrl.client import CtrlClient
from flashflow.ctrl.protocol import CtrlRefusedError
from flashflow.ctrl.show import result_line
from flashflow.demo.child import ChildFailedError
from flashflow.demo.deployment import RunningRelay
from flashflow.demo.period_deployment import PeriodDeployment
from flashflow.demo.period_plan import PeriodPlan
from flashflow.demo.period_report import (
    Left,
    Missing,
    PeriodRow,
    make_period_row,
    period_complaints,
    period_document,
    period_table,
)
from flashflow.demo.plan import MEASURERS
from flashflow.demo.report import notes
from flashflow.demo.stage import Finding, Outcome, explained, read_v3bw, staged
from flashflow.demo.team import WARMUP_S
from flashflow.model.errors import LocalError
from flashflow.model.ids import Fingerprint
from flashflow.testnet.counts import median_read_mbps, read_counts

POLL_S = 0.3
PASSED_S = 8.0
"""From a slot's begin: a measurement in it would have shown by now."""


def run_period_demo(
    plan: PeriodPlan, out: Path, console: Console, relay_command: Sequence[str] | None = None
) -> Outcome:
    """Run the demo, show it on `console`, write OUT/demo.json and OUT/v3bw. Raises LocalError if it cannot."""

    def measure(work: Path) -> Finding:
        with PeriodDeployment(plan, work, relay_command) as deployment, explained(deployment, console):
            return _measure_all(deployment, console)

    return staged(plan, out, console, measure)


def _measure_all(deployment: PeriodDeployment, console: Console) -> Finding:
    with console.status("starting relays, coordinator and measurers"):
        deployment.start()
    console.out(_summary(deployment), highlight=False)
    with deployment.ctrl() as client:
        watch = _Watch(deployment, client, console)
        watch.wait_for_schedule()
        leaver = watch.next_planned()
        left_utc_s = time.time()
        deployment.leave(leaver)
        joiner = deployment.join(deployment.plan.rates_mbps[-1])
        watch.wait_for_change(leaver, joiner)
        watch.wait_for_results(leaver)
        left = _left(watch, leaver, left_utc_s)
        rows = _rows(watch, deployment, joiner)
        found = period_complaints(rows, left, watch.missing(), deployment.period_plan)
        if not rows:
            raise LocalError("; ".join(found))
        v3bw = read_v3bw(client)
    return Finding(
        rows,
        v3bw,
        period_table(rows, left),
        notes(rows),
        found,
        period_document(joiner.nickname, left, deployment.slot_s, deployment.period_s),
    )


class _Watch:
    """What the schedule does, seen through the control socket."""

    def __init__(self, deployment: PeriodDeployment, client: CtrlClient, console: Console) -> None:
        self.planned: dict[Fingerprint, int | None] = {}
        """The slot that each relay was given first; None if none had room."""
        self.ended: dict[tuple[int, float], dict[str, Any]] = {}
        """The result objects of all that was measured or tried, oldest first."""
        self._deployment = deployment
        self._client = client
        self._console = console
        self._period_utc_s = 0.0
        self._deadline_s = 0.0

    def wait_for_schedule(self) -> None:
        """Until the period has begun. Raises LocalError."""
        deployment = self._deployment
        if not self._until("waiting for the period to begin", self._has_begun, 2.0 * deployment.period_s):
            raise LocalError("the coordinator made no schedule")
        self._deadline_s = time.monotonic() + deployment.period_s + deployment.slot_s
        self._period_utc_s = time.time() // deployment.period_s * deployment.period_s
        for relay in deployment.relays:
            self._note_plan(relay)

    def next_planned(self) -> RunningRelay:
        """The relay with the first slot that has not begun."""
        present, last = self._deployment.slot_of(time.time()), self._deployment.period_plan.n_slots

        def slot(relay: RunningRelay) -> int:
            planned = self.planned[relay.fingerprint]
            return last if planned is None else planned if planned > present else last + 1

        return min(self._deployment.relays, key=slot)

    def wait_for_change(self, leaver: RunningRelay, joiner: RunningRelay) -> None:
        """Until one has its slot and the other has none, or that is to be complained of."""

        def is_done() -> bool:
            return not self.has_slot(leaver) and self._plan_of(joiner) is not None

        self._until(f"{joiner.nickname} joins, {leaver.nickname} leaves", is_done, self._deployment.slot_s)
        self._note_plan(joiner, " joined the consensus")
        if not self.has_slot(leaver):
            self._console.out(
                f"{leaver.nickname} left the consensus: it has no slot any more", highlight=False
            )

    def wait_for_results(self, leaver: RunningRelay) -> None:
        """Until each relay was measured, or should have been, and the slot has come that one had when it left."""
        slot = self.planned[leaver.fingerprint] or 0
        passed_utc_s = self._period_utc_s + slot * self._deployment.slot_s + PASSED_S

        def is_done() -> bool:
            return not self.missing() and time.time() >= passed_utc_s

        self._until("measuring by the schedule", is_done, self._deadline_s - time.monotonic())

    def result(self, relay: RunningRelay) -> dict[str, Any] | None:
        """Its first success."""
        mine = (one for one in self.ended.values() if one["fingerprint"] == relay.fingerprint)
        return next((one for one in mine if one["outcome"] == "ok"), None)

    def missing(self) -> list[Missing]:
        """The relays of the consensus without a result."""
        return [
            Missing(relay.nickname, self._why(relay))
            for relay in self._deployment.relays
            if self.result(relay) is None
        ]

    def has_slot(self, relay: RunningRelay) -> bool:
        """Whether the slot that it was given is still its own."""
        slot = self.planned[relay.fingerprint]
        if slot is None:
            return False
        rows = self._client.request("schedule", "slot", str(slot))["measurements"]
        return any(row["fingerprint"] == relay.fingerprint for row in rows)

    def _why(self, relay: RunningRelay) -> str:
        reasons = [
            one["failure"]["reason"]
            for one in self.ended.values()
            if one["fingerprint"] == relay.fingerprint and one["outcome"] != "ok"
        ]
        if reasons:
            return str(reasons[-1])
        slot = self.planned.get(relay.fingerprint)
        return "it got no slot" if slot is None else f"nothing came of slot {slot}"

    def _has_begun(self) -> bool:
        try:
            self._client.request("schedule")
        except CtrlRefusedError:
            return False
        return True

    def _note_plan(self, relay: RunningRelay, event: str = "") -> None:
        slot = self.planned[relay.fingerprint] = self._plan_of(relay)
        what = "no slot has room for it" if slot is None else f"slot {slot}"
        self._console.out(f"{relay.nickname}{event}: {what}", highlight=False)

    def _plan_of(self, relay: RunningRelay) -> int | None:
        """The relay's slot, this one if it is measured at present."""
        try:
            shown = self._client.request("schedule", "relay", relay.fingerprint)
        except CtrlRefusedError:  # not known yet
            return None
        slots = [row["slot"] for row in shown["measurements"]]
        if shown["begun"] and not slots:
            slots.append(self._deployment.slot_of(time.time()))
        return slots[0] if slots else None

    def _until(self, what: str, is_done: Callable[[], bool], timeout_s: float) -> bool:
        """Whether it was within `timeout_s`; shows what is measured meanwhile. Raises ChildFailedError."""
        deadline_s = time.monotonic() + timeout_s
        with self._console.status(what):
            while time.monotonic() < deadline_s:
                self._look()
                if is_done():
                    return True
                if dead := self._deployment.dead():
                    raise ChildFailedError(f"{dead[0].name} ended with status {dead[0].returncode}", dead[0])
                time.sleep(POLL_S)
        return False

    def _look(self) -> None:
        for result in reversed(self._client.request("results")["results"]):
            key = (result["meas_id"], result["started_utc_s"])
            if key not in self.ended:
                self.ended[key] = result
                slot = self._deployment.slot_of(result["started_utc_s"])
                self._console.out(f"slot {slot}: {result_line(result)}", highlight=False)


def _rows(watch: _Watch, deployment: PeriodDeployment, joiner: RunningRelay) -> list[PeriodRow]:
    found = [(relay, result) for relay in deployment.relays if (result := watch.result(relay)) is not None]
    return [
        make_period_row(
            result,
            relay.rate_mbps,
            median_read_mbps(relay.counts, result["active_utc_s"], deployment.plan.duration_s),
            slot=deployment.slot_of(result["started_utc_s"]),
            planned_slot=watch.planned[relay.fingerprint],
            joined=relay is joiner,
        )
        for relay, result in found
    ]


def _left(watch: _Watch, relay: RunningRelay, left_utc_s: float) -> Left:
    counts = read_counts(relay.counts)
    before = max((count.read_bytes for count in counts if count.utc_s <= left_utc_s), default=0)
    tries = [one for one in watch.ended.values() if one["fingerprint"] == relay.fingerprint]
    return Left(
        nickname=relay.nickname,
        fingerprint=relay.fingerprint,
        planned_slot=watch.planned[relay.fingerprint],
        gave_up_slot=not watch.has_slot(relay),
        measurements=sum(one["started_utc_s"] > left_utc_s for one in tries),
        relay_counted_bytes=counts[-1].read_bytes - before,
    )


def _summary(deployment: PeriodDeployment) -> str:
    plan = deployment.period_plan
    return (
        f"{len(deployment.relays)} relays, a coordinator and {len(MEASURERS)} measurers of {plan.measurer_mbps} Mbit/s"
        f" run on {plan.host}; a period has {plan.n_slots} slots of {deployment.slot_s} s, and a measurement counts"
        f" {plan.duration_s} s after {WARMUP_S} s of warm-up"
    )
