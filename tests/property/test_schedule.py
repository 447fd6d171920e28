"""Any relays, team and settings, and whatever happens in a period: what has to hold of every schedule."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coordinator.core import schedule as module
from coordinator.core.packing import crews_of
from coordinator.core.schedule import Candidate, Placement, Schedule, Slots
from support.schedules import SEED, fingerprint, places, problems, turn

RATES = st.integers(1, 30) | st.integers(1, 2000)
TEAMS = st.dictionaries(
    st.integers(1, 25).map(lambda number: f"m{number}"), st.integers(0, 100), max_size=4
) | st.integers(11, 25).map(lambda size: {f"m{number}": 10 + number % 7 for number in range(size)})


def relays(first: int, *, max_size: int) -> st.SearchStrategy[list[Candidate]]:
    """Relays with numbers from `first` on, some of them in groups."""
    made = st.lists(st.tuples(RATES, st.none() | st.integers(0, 3)), max_size=max_size)
    return made.map(
        lambda found: [
            Candidate(fingerprint(first + n), rate, group) for n, (rate, group) in enumerate(found)
        ]
    )


@st.composite
def slots(draw: st.DrawFn) -> Slots:
    """The settings of a period."""
    n_slots, deployments = draw(st.integers(1, 30)), draw(st.integers(1, 3))
    return Slots(
        n_slots,
        SEED,
        first=draw(st.integers(0, n_slots)),
        strategy=draw(st.sampled_from(["uniform", "fastest"])),
        deployment=draw(st.integers(0, deployments - 1)),
        deployments=deployments,
    )


STEPS = st.lists(
    st.tuples(st.sampled_from(["next", "next", "remove", "team"]), st.integers(0, 30), RATES, TEAMS),
    max_size=12,
)


class Period:
    """A schedule, and what a test knows of it by itself."""

    def __init__(self, settings: Slots, team: dict[str, int], candidates: list[Candidate]) -> None:
        self.schedule = Schedule(settings)
        self.schedule.build(candidates, team)
        self.teams = {0: team}
        self.relays = [candidate.fingerprint for candidate in candidates]

    def step(self, kind: str, slot: int, rate: int, team: dict[str, int], number: int) -> None:
        """One thing that happens; what it may not touch stays."""
        before = list(self.schedule.placements())
        if kind == "next":
            self.place_next(Candidate(fingerprint(number % 60), rate, None), slot)
        elif kind == "remove" and self.relays:
            self.schedule.remove(self.relays[number % len(self.relays)], slot)
        elif kind == "team":
            self.change_team(team, slot)
        after = list(self.schedule.placements())
        if kind == "next":
            assert set(before) <= set(after)
        else:
            assert [p for p in before if p.slot < slot] == [p for p in after if p.slot < slot]

    def place_next(self, candidate: Candidate, slot: int) -> None:
        mine = {p.slot for p in self.schedule.of(candidate.fingerprint)}
        placed = self.schedule.place_next(candidate, slot)
        if placed is not None:
            assert placed.slot >= max(slot, self.schedule.slots.first)
            assert placed.slot not in mine
            assert placed in self.schedule.of(candidate.fingerprint)
            assert placed.rate_bytes == candidate.rate_bytes or placed.capped
            self.relays.append(candidate.fingerprint)

    def change_team(self, team: dict[str, int], slot: int) -> None:
        before = list(self.schedule.placements())
        moved = self.schedule.change_team(team, slot)
        assert all(placement.slot >= slot for placement in moved)
        assert places(before) - places(self.schedule.placements()) <= places(moved)
        if len(team) <= 10:
            self.check_that_they_had_to_move(before, moved, sum(team.values()))
        self.teams = {first: old for first, old in self.teams.items() if first < slot} | {slot: team}

    def check_that_they_had_to_move(
        self, before: list[Placement], moved: list[Placement], capacity: int
    ) -> None:
        """What stayed in the slot leaves no room for a relay, or a relay's group, that had to leave it."""
        for slot in {placement.slot for placement in moved}:
            gone = [placement for placement in moved if placement.slot == slot]
            stayed = [placement for placement in before if placement.slot == slot and placement not in gone]
            room = capacity - sum(min(placement.wanted_bytes, capacity) for placement in stayed)
            for placement in gone:
                mates = [p for p in gone if p.group is not None and p.group == placement.group] or [placement]
                assert room < sum(min(mate.wanted_bytes, capacity) for mate in mates) or capacity == 0

    def check(self) -> None:
        schedule = self.schedule
        assert problems(schedule, self.teams) == []
        for p in schedule.placements():
            assert schedule.slots.first <= p.slot < schedule.slots.n_slots
            args = (SEED, p.fingerprint, p.slot, schedule.slots.deployments)
            assert turn(*args) == schedule.slots.deployment
        newest = max(self.teams)
        for slot in range(max(newest, schedule.slots.first), schedule.slots.n_slots):
            used = sum(p.rate_bytes for p in schedule.in_slot(slot))
            assert schedule.free_bytes(slot) == sum(self.teams[newest].values()) - used


TEAM_OF_ELEVEN = {f"m{number}": 10 + number % 7 for number in range(11)}


@settings(max_examples=300, deadline=None)
@given(slots(), TEAMS, relays(0, max_size=40), STEPS)
@example(  # relays with two slots each lose both with their team
    Slots(2, SEED),
    TEAM_OF_ELEVEN,
    [Candidate(fingerprint(number), 1) for number in range(0, 42, 7)],
    [*[("next", 0, 1, {})] * 6, ("team", 0, 1, {}), ("team", 0, 1, TEAM_OF_ELEVEN)],
)
def test_whatever_happens(
    period: Slots, team: dict[str, int], candidates: list[Candidate], steps: list[tuple[Any, ...]]
) -> None:
    world = Period(period, team, candidates)
    placed = [p.fingerprint for p in world.schedule.placements()]
    left = [candidate.fingerprint for candidate in world.schedule.unplaced]
    assert sorted(placed + left) == sorted(world.relays)
    world.check()
    for number, (kind, slot, rate, other) in enumerate(steps):
        world.step(kind, slot, rate, other, number * 7)
        world.check()


@settings(max_examples=100, deadline=None)
@given(slots(), TEAMS, relays(0, max_size=40), st.integers(0, 30))
def test_a_restart_with_the_same_team_moves_nobody(
    period: Slots, team: dict[str, int], candidates: list[Candidate], now: int
) -> None:
    before = Schedule(period)
    before.build(candidates, team)
    after = Schedule.restore(period, before.placements(), team, now)
    assert list(after.placements()) == list(before.placements()) or set(after.placements()) == set(
        before.placements()
    )
    coming = range(max(now, period.first), period.n_slots)
    assert [after.shares(slot) for slot in coming] == [before.shares(slot) for slot in coming]
    assert [after.free_bytes(slot) for slot in coming] == [before.free_bytes(slot) for slot in coming]


@settings(max_examples=100, deadline=None)
@given(slots(), TEAMS, relays(0, max_size=40), st.randoms(use_true_random=False))
def test_the_order_in_which_the_relays_come_does_not_matter(
    period: Slots, team: dict[str, int], candidates: list[Candidate], chance: Any
) -> None:
    one, other = Schedule(period), Schedule(period)
    one.build(candidates, team)
    shuffled = list(candidates)
    chance.shuffle(shuffled)
    other.build(shuffled, team)
    assert list(one.placements()) == list(other.placements())
    assert one.unplaced == other.unplaced


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 4), TEAMS, relays(0, max_size=30), relays(20, max_size=20), st.integers(0, 20))
def test_deployments_never_share_a_relay_and_slot(
    deployments: int, team: dict[str, int], candidates: list[Candidate], later: list[Candidate], now: int
) -> None:
    seen: set[tuple[str, int]] = set()
    for deployment in range(deployments):
        strategy = "fastest" if deployment % 2 else "uniform"
        schedule = Schedule(
            Slots(30, SEED, strategy=strategy, deployment=deployment, deployments=deployments)
        )
        schedule.build(candidates[deployment:], team)  # they need not know the same relays, nor estimates
        for candidate in [*later, *candidates]:  # new ones and second measurements
            schedule.place_next(Candidate(candidate.fingerprint, candidate.rate_bytes + deployment), now)
        mine = places(schedule.placements())
        assert not mine & seen
        seen |= mine


def test_without_the_rule_deployments_do_share_some() -> None:
    candidates = [Candidate(fingerprint(n), 10) for n in range(30)]
    seen = []
    for _ in range(2):
        schedule = Schedule(Slots(30, SEED))
        schedule.build(candidates, {"m": 100})
        seen.append(places(schedule.placements()))
    assert seen[0] & seen[1]


def test_a_fifth_too_much_for_a_measurer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    team = {"m1": 100, "m2": 50}
    candidates = [Candidate(fingerprint(n), 10) for n in range(300)]

    def built() -> list[str]:
        schedule = Schedule(Slots(10, SEED))
        schedule.build(candidates, team)
        return problems(schedule, {0: team})

    assert built() == []
    monkeypatch.setattr(
        module, "crews_of", lambda team: crews_of({name: rate * 6 // 5 for name, rate in team.items()})
    )
    assert any("m1 has 120" in problem for problem in built())
