"""What came of a simulation, beside the least time that any schedule needs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import nlargest

from coordinator.simulate.world import Outcome
from flashflow.model.ids import Fingerprint
from flashflow.torctl.commands import MAX_MEASURERS

HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one period."""

    relays: int
    """Running relays of the consensus."""
    measured: int
    """Those of which there is a result."""
    accepted: int
    """Those whose last result is their capacity."""
    hours: float
    """From the period's start to the end of the last slot used."""
    lower_bound_hours: float
    """What all allocations of estimates take together if no capacity is ever left over."""
    ratio: float
    """hours / lower_bound_hours."""
    slots_used: int
    """Slots in which a measurement began."""
    utilisation: float
    """Share of the team's capacity that was allocated, from the period's start to the end of the last slot used."""
    remeasured: int
    """Measurements beyond the first of a relay."""
    failed: int
    """Measurements without a result."""
    team_limited: int
    """Relays whose last result is a lower bound because the team has no more for one relay."""


def lower_bound_hours(
    estimates: Iterable[int], factor: Fraction, team_bytes: Sequence[int], slot_s: int
) -> float:
    """Sum of min(f z, team) slot / team: each relay has its slot, and is allocated what up to ten measurers have."""
    most = Fraction(sum(nlargest(MAX_MEASURERS, team_bytes)))
    wanted = sum((min(factor * estimate, most) for estimate in estimates), Fraction())
    return float(wanted * slot_s / sum(team_bytes) / HOUR_S)


def figures_of(
    outcomes: Sequence[Outcome], n_relays: int, least_hours: float, team_bytes: Sequence[int], slot_s: int
) -> Figures:
    """The figures of what was stored."""
    slots = {outcome.slot for outcome in outcomes}
    n_slots = max(slots, default=-1) + 1
    last = _last_results(outcomes)
    times = Counter(outcome.fingerprint for outcome in outcomes)
    allocated = sum(outcome.allocated_bytes for outcome in outcomes)
    hours = n_slots * slot_s / HOUR_S
    return Figures(
        relays=n_relays,
        measured=len(last),
        accepted=sum(outcome.accepted for outcome in last.values()),
        hours=hours,
        lower_bound_hours=least_hours,
        ratio=hours / least_hours,
        slots_used=len(slots),
        utilisation=allocated / (n_slots * sum(team_bytes)) if n_slots else 0.0,
        remeasured=sum(count - 1 for count in times.values()),
        failed=sum(outcome.result_bytes is None for outcome in outcomes),
        team_limited=sum(outcome.team_limited for outcome in last.values()),
    )


def split_groups(outcomes: Iterable[Outcome], groups: Iterable[Iterable[Fingerprint]]) -> int:
    """How many groups had their first measurements in more than one slot."""
    first: dict[Fingerprint, int] = {}
    for outcome in outcomes:
        first.setdefault(outcome.fingerprint, outcome.slot)
    return sum(len({first[member] for member in members if member in first}) > 1 for members in groups)


def _last_results(outcomes: Iterable[Outcome]) -> Mapping[Fingerprint, Outcome]:
    return {outcome.fingerprint: outcome for outcome in outcomes if outcome.result_bytes is not None}
