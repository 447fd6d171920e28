"""A whole deployment that measures by the schedule, with relays that join the consensus and leave it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flashflow.demo.deployment import DIRECTORY, Deployment, RunningRelay
from flashflow.demo.period_plan import PeriodPlan, next_period_utc_s, slot_length
from flashflow.demo.team import TeamSettings
from flashflow.model.ids import Fingerprint
from flashflow.model.units import from_mbps

LEAD_S = 15.0
"""From the coordinator's start until it is ready to measure, on a busy machine."""
REFRESH_S = 2
"""The coordinator reads the consensus again this often."""


class PeriodDeployment(Deployment):
    """The processes of one demo of the schedule; `relays` are those in the consensus."""

    def __init__(
        self,
        plan: PeriodPlan,
        folder: Path,
        relay_command: Sequence[str] | None = None,
        commands: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """As of Deployment."""
        super().__init__(plan, folder, relay_command, commands)
        self.period_plan = plan
        self.slot_s = plan.shortest_slot_s
        """Length of a slot; decided when the relays run, just before the coordinator starts."""
        self._begin_utc_s = 0

    @property
    def period_s(self) -> int:
        """Length of the period."""
        return self.period_plan.n_slots * self.slot_s

    def slot_of(self, utc_s: float) -> int:
        """The slot of its period in which that was."""
        return int(utc_s % self.period_s // self.slot_s)

    def join(self, rate_mbps: float) -> RunningRelay:
        """Start another relay and list it in the consensus. Raises LocalError."""
        self.start_relays([rate_mbps])
        self.write_network()
        return self.relays[-1]

    def leave(self, relay: RunningRelay) -> None:
        """Take a relay out of the consensus; it runs on, and counts whether it is measured after all."""
        self.relays.remove(relay)
        self.write_network()

    def settings(self) -> TeamSettings:
        """With slots and a period that begins soon."""
        ready_utc_s = time.time() + LEAD_S
        self.slot_s = slot_length(self.period_plan, ready_utc_s)
        self._begin_utc_s = next_period_utc_s(self.period_s, ready_utc_s)
        schedule = f"[schedule]\nstrategy = {self.period_plan.strategy}\nco_location = none\n"  # all have one address
        often = DIRECTORY.replace("[directory]\n", f"[directory]\nrefresh = {REFRESH_S}\n")
        return replace(
            super().settings(), slot_s=self.slot_s, period_s=self.period_s, directory=schedule + often
        )

    def start_team(self, settings: TeamSettings) -> None:
        """In the last slot before the period: at the begin of it, a schedule would be made for what is left of the last."""
        time.sleep(max(0.0, self._begin_utc_s - self.slot_s - time.time()))
        super().start_team(settings)

    def relay_options(self) -> dict[str, str]:
        """They count measurements within less than a period, for their window slides and the coordinator's does not."""
        longest_s = self.period_plan.n_slots * self.period_plan.shortest_slot_s
        return {
            **super().relay_options(),
            "--period-s": f"{longest_s - self.period_plan.shortest_slot_s / 2:g}",
        }

    def weights_kb(self) -> dict[Fingerprint, int]:
        """So that each relay's estimate is the plan's share of what it can do."""
        share = self.period_plan.weight_share
        return {relay.fingerprint: int(share * from_mbps(relay.rate_mbps)) // 1000 for relay in self.relays}
