"""The whole Tor network of March 2020: all relays placed, and how near `fastest` comes to the least possible time."""

import lzma
from collections import Counter
from collections.abc import Mapping

import pytest

from coordinator.core.colocation import Kind, groups
from coordinator.core.schedule import Schedule, Slots, Strategy
from support.schedules import DAY_SLOTS, REAL_CONSENSUS, SEED, TEAM, problems, real_candidates, real_relays

MOST_OVER_LOWER_BOUND = 1.03
F = 2.25 * 1.05 / 0.8
KINDS: list[Kind | None] = [None, "address", "family", "prefix"]


def built(
    strategy: Strategy, kind: Kind | None = None, team: Mapping[str, int] = TEAM, n_slots: int = DAY_SLOTS
) -> Schedule:
    schedule = Schedule(Slots(n_slots, SEED, strategy=strategy))
    schedule.build(real_candidates(kind), team)
    return schedule


def weight_lines() -> list[str]:
    """The `w` lines of the consensus."""
    with lzma.open(REAL_CONSENSUS, "rt") as text:
        return [line for line in text if line.startswith("w ")]


def lower_bound_slots() -> float:
    """The sum of min(f z, team) / team, from the text of the consensus and nothing else."""
    team = sum(TEAM.values())
    lines = [line.split()[1:] for line in weight_lines()]
    rates = sorted(int(words[0].removeprefix("Bandwidth=")) * 1000 for words in lines if len(words) == 1)
    usual = rates[-(-len(rates) * 3 // 4) - 1]
    rates += [usual] * (len(lines) - len(rates))
    return sum(min(F * max(rate, 125_000), team) for rate in rates) / team


def slots_used(schedule: Schedule) -> int:
    """From the begin of the period to the end of the last slot with a relay."""
    return 1 + max(placement.slot for placement in schedule.placements())


def test_the_network_is_the_one_that_is_meant() -> None:
    assert len(weight_lines()) == len(real_candidates()) == 6532


@pytest.mark.parametrize(("kind", "split"), [(None, 0), ("address", 18), ("family", 0), ("prefix", 70)])
def test_fastest_is_near_the_lower_bound_whatever_is_co_located(kind: Kind | None, split: int) -> None:
    """As docs/scheduling.md has it: small relays fill what groups leave; a consensus alone tells no families."""
    schedule = built("fastest", kind)
    assert schedule.unplaced == []
    assert slots_used(schedule) == len({placement.slot for placement in schedule.placements()}) == 620
    assert 1 <= slots_used(schedule) / lower_bound_slots() <= MOST_OVER_LOWER_BOUND
    assert len(schedule.split_groups) == split
    assert problems(schedule, {0: TEAM}) == []


def test_one_address_is_one_prefix() -> None:
    """So both kinds together group what the prefix does."""
    relays = real_relays()
    assert groups(relays, frozenset({"address", "prefix"})) == groups(relays, frozenset({"prefix"}))


def test_a_schedule_that_leaves_a_fifth_of_the_team_unused_is_not() -> None:
    lazy = built("fastest", team={name: rate * 4 // 5 for name, rate in TEAM.items()})
    assert slots_used(lazy) / lower_bound_slots() > MOST_OVER_LOWER_BOUND


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_slots", [DAY_SLOTS, DAY_SLOTS // 2])
def test_a_day_of_uniform_places_every_relay_once(kind: Kind | None, n_slots: int) -> None:
    schedule = built("uniform", kind, n_slots=n_slots)
    placed = [placement.fingerprint for placement in schedule.placements()]
    assert schedule.unplaced == []
    assert sorted(placed) == sorted(candidate.fingerprint for candidate in real_candidates())
    assert problems(schedule, {0: TEAM}) == []


@pytest.mark.parametrize("kind", KINDS)
def test_groups_share_a_slot_if_it_can_hold_them_and_are_told_if_not(kind: Kind | None) -> None:
    schedule = built("uniform", kind)
    slots: dict[int, set[int]] = {}
    rates: Counter[int] = Counter()
    for placement in schedule.placements():
        if placement.group is not None:
            slots.setdefault(placement.group, set()).add(placement.slot)
            rates[placement.group] += placement.rate_bytes
    assert bool(slots) == (kind in ("address", "prefix"))  # a consensus alone tells no families
    for group, taken in slots.items():
        assert (len(taken) == 1) == (rates[group] <= sum(TEAM.values()))
    told = sorted(split.n_slots for split in schedule.split_groups)
    assert told == sorted(len(taken) for taken in slots.values() if len(taken) > 1)


def at_least(rates: list[int], team: int) -> int:
    """A bound of bin packing (Martello and Toth's L2): those above half a slot are alone but for what fits beside."""
    bounds = []
    for small in {0, *(rate for rate in rates if 2 * rate <= team)}:
        halves = [rate for rate in rates if 2 * rate > team]
        beside = sum(team - rate for rate in halves if rate <= team - small)
        rest = sum(rate for rate in rates if small <= rate and 2 * rate <= team)
        bounds.append(len(halves) + max(0, -(-(rest - beside) // team)))
    return max(bounds)


def test_split_groups_take_the_fewest_slots_or_nearly() -> None:
    """Of the 70 that are larger than a slot, 66 take as few as any could; for the rest that is not known."""
    schedule = built("uniform", "prefix")
    team = sum(TEAM.values())
    allocated = {placement.fingerprint: placement.rate_bytes for placement in schedule.placements()}
    over = 0
    for group in schedule.split_groups:
        least = at_least([allocated[member] for member in group.members], team)
        assert least <= group.n_slots <= least + 1
        over += group.n_slots > least
    assert len(schedule.split_groups) == 70
    assert over <= 4
