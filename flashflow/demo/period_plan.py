"""What a demo of the schedule is to do, checked: relays, the length of slots and of the period, the team's size."""

import math
from dataclasses import dataclass
from typing import Literal

from flashflow.demo.plan import MEASURERS, Plan, make_plan
from flashflow.demo.team import WARMUP_S
from flashflow.model.errors import UsageError
from flashflow.model.timing import DRAIN_S, SETUP_S

DEFAULT_RATES_MBPS = (40.0, 24.0, 16.0, 8.0, 6.0)
"""Relay limits of a demo that names none; the last relay joins when the others have their slots."""
LEAST_RELAYS = 3
"""One that joins, one that leaves, one that stays."""
DEFAULT_DURATION_S = 5
"""Seconds that a measurement counts in a demo that names none."""
LEAST_SLOTS = 3
ALLOCATED = 2.953125
"""How many times its estimate a relay is allocated: the paper's f."""
SPARE_SLOT_S = 9
"""Slots may be so much longer than they have to be."""
SLOT_SHARE = 0.6
"""Of all relays that are there from the begin, as much as a slot has room for: they never share one slot, so that one
of them still has a slot to come when it leaves."""


@dataclass(frozen=True, slots=True)
class PeriodPlan(Plan):
    """One demo of the schedule."""

    weight_share: float = 1.0
    """The consensus' weight of a relay, as a share of its limit: what it is estimated at before it is measured."""
    strategy: Literal["uniform", "fastest"] = "uniform"
    """How relays are spread over the period."""

    @property
    def first_mbps(self) -> tuple[float, ...]:
        """The limits of the relays that are there from the begin."""
        return self.rates_mbps[:-1]

    @property
    def slot_mbps(self) -> float:
        """Relays of so many Mbit/s together are measured at once."""
        return max(*self.first_mbps, SLOT_SHARE * sum(self.first_mbps), self.rates_mbps[-1])

    @property
    def measurer_mbps(self) -> int:
        """The capacity that each measurer's own configuration states."""
        return math.ceil(ALLOCATED * self.slot_mbps / len(MEASURERS)) + 1

    @property
    def n_slots(self) -> int:
        """Slots of the period: so many that the relay that joins surely finds room behind the first."""
        beside = self.slot_mbps - self.rates_mbps[-1]
        needed = math.ceil(sum(self.first_mbps) / beside) if beside else len(self.rates_mbps)
        return max(LEAST_SLOTS, 1 + min(needed, len(self.rates_mbps)))

    @property
    def shortest_slot_s(self) -> int:
        """What a slot has to hold."""
        return SETUP_S + WARMUP_S + self.duration_s + DRAIN_S


def make_period_plan(
    relays: int | None, rates: str | None, duration_s: int | None, background: float, host: str
) -> PeriodPlan:
    """The plan for the command line's options with --period. Raises UsageError."""
    if rates is None:
        count = len(DEFAULT_RATES_MBPS) if relays is None else relays
        rates = ",".join(f"{DEFAULT_RATES_MBPS[i % len(DEFAULT_RATES_MBPS)]:g}" for i in range(count)) or None
    duration_s = DEFAULT_DURATION_S if duration_s is None else duration_s
    plan = make_plan(relays, rates, duration_s, background, host)
    if len(plan.rates_mbps) < LEAST_RELAYS:
        raise UsageError(f"--period with {len(plan.rates_mbps)} relays: expected {LEAST_RELAYS} or more")
    if background:
        raise UsageError(f"--background {background:g}: expected 0 with --period")
    made = PeriodPlan(plan.rates_mbps, plan.duration_s, plan.background_percent, plan.host)
    if ALLOCATED * sum(made.first_mbps) <= len(MEASURERS) * made.measurer_mbps:
        raise UsageError(
            f"--rates: with --period, the relays but the last have to be too many for one slot, and a slot holds"
            f" {made.slot_mbps:g} Mbit/s of them: expected a second one that is not much slower than the fastest"
        )
    return made


def slot_length(plan: PeriodPlan, ready_utc_s: float) -> int:
    """The length of slots with which a period that begins after `ready_utc_s` comes to its last slot soonest.

    Periods begin at whole multiples of their length, so a little more in each slot may spare a long wait.
    """

    def last_slot_utc_s(slot_s: int) -> int:
        return next_period_utc_s(plan.n_slots * slot_s, ready_utc_s) + (plan.n_slots - 1) * slot_s

    return min(range(plan.shortest_slot_s, plan.shortest_slot_s + SPARE_SLOT_S + 1), key=last_slot_utc_s)


def next_period_utc_s(period_s: int, ready_utc_s: float) -> int:
    """When the first period after `ready_utc_s` begins."""
    return math.ceil(ready_utc_s / period_s) * period_s
