"""The schedule, case by case; what holds of any schedule is in tests/property/test_schedule.py."""

import hashlib
import itertools
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from coordinator.core.draw import Draw
from coordinator.core.schedule import Candidate, Placement, Schedule, Slots, Strategy
from support.schedules import SEED, fingerprint, is_uniform, places, problems, turn

ROOT = Path(__file__).resolve().parents[3]
TEAM = {"m1": 60, "m2": 40}


def relay(number: int, rate: int, group: int | None = None) -> Candidate:
    return Candidate(fingerprint(number), rate, group)


def built(
    *candidates: Candidate, team: dict[str, int] = TEAM, n_slots: int = 20, strategy: Strategy = "fastest"
) -> Schedule:
    schedule = Schedule(Slots(n_slots, SEED, strategy=strategy))
    schedule.build(candidates, team)
    return schedule


def slot_of(schedule: Schedule, number: int) -> list[int]:
    return [placement.slot for placement in schedule.of(fingerprint(number))]


# --- building ---


def test_fastest_places_the_largest_first_and_each_in_the_first_slot_with_room() -> None:
    schedule = built(relay(1, 30), relay(2, 70), relay(3, 60), relay(4, 40), relay(5, 1))
    assert [slot_of(schedule, n) for n in (2, 3, 4, 1, 5)] == [[0], [1], [1], [0], [2]]
    assert [schedule.free_bytes(slot) for slot in range(4)] == [0, 0, 99, 100]


def test_of_relays_that_ask_for_the_same_the_first_by_fingerprint_goes_first() -> None:
    schedule = built(*(relay(n, 100) for n in range(6)))
    ordered = [placement.fingerprint for placement in schedule.placements()]
    assert ordered == sorted(ordered)


def test_uniform_uses_the_slots_of_the_whole_period() -> None:
    schedule = built(*(relay(n, 1) for n in range(400)), strategy="uniform")
    assert {placement.slot for placement in schedule.placements()} == set(range(20))


def test_slots_that_are_over_are_not_used() -> None:
    for strategy in ("uniform", "fastest"):
        schedule = Schedule(Slots(20, SEED, first=18, strategy=strategy))
        schedule.build([relay(n, 50) for n in range(5)], TEAM)
        assert {placement.slot for placement in schedule.placements()} == {18, 19}
        assert len(schedule.unplaced) == 1
        late = schedule.place_next(relay(9, 1), 3)
        assert late is None


def test_what_finds_no_room_is_told_largest_first() -> None:
    schedule = built(relay(1, 10), relay(2, 30), relay(3, 80), n_slots=1, team={"m1": 35})
    assert [candidate.rate_bytes for candidate in schedule.unplaced] == [30, 10]


def test_a_relay_that_wants_more_than_the_team_has_gets_a_slot_of_all_of_it() -> None:
    schedule = built(relay(1, 250), relay(2, 1))
    (placement,) = schedule.of(fingerprint(1))
    assert (placement.rate_bytes, placement.wanted_bytes, placement.capped) == (100, 250, True)
    assert schedule.shares(0) == {fingerprint(1): {"m1": 60, "m2": 40}}
    assert slot_of(schedule, 2) == [1]
    assert not schedule.of(fingerprint(2))[0].capped


def test_without_a_team_nothing_is_placed_until_one_comes() -> None:
    schedule = built(relay(1, 10), relay(2, 20, 1), relay(3, 20, 1), team={"m1": 0})
    assert len(schedule.unplaced) == 3
    assert schedule.place_next(relay(4, 1), 0) is None
    assert schedule.shares(0) == {}
    schedule.change_team(TEAM, 5)
    assert schedule.unplaced == []
    assert [slot_of(schedule, n) for n in (1, 2, 3)] == [[5], [5], [5]]


# --- shares ---


def test_rates_are_spread_by_capacity_and_add_up_exactly() -> None:
    schedule = built(relay(1, 33), relay(2, 7), relay(3, 60))
    shares = schedule.shares(0)
    assert [sum(shares[fingerprint(n)].values()) for n in (1, 2, 3)] == [33, 7, 60]
    assert sum(share["m1"] for share in shares.values()) == 60
    assert shares[fingerprint(3)] == {"m1": 36, "m2": 24}


def test_of_a_large_team_ten_at_most_measure_a_relay_and_all_are_used() -> None:
    team = {f"m{n:02}": 10 for n in range(25)}
    schedule = built(relay(1, 500), relay(2, 100), relay(3, 40), relay(4, 10), team=team)
    shares = schedule.shares(0)
    assert [len(shares[fingerprint(n)]) for n in (1, 2)] == [10, 10]
    assert len({name for share in shares.values() for name in share}) == 25
    assert schedule.of(fingerprint(1))[0].capped
    assert slot_of(schedule, 4) == [0]
    assert schedule.free_bytes(0) == 0
    assert problems(schedule, {0: team}) == []


# --- the same seed ---

_DIGEST = """
import hashlib
from support.schedules import *
from coordinator.core.schedule import *
found = hashlib.sha256()
for strategy in ("uniform", "fastest"):
    schedule = Schedule(Slots(DAY_SLOTS, SEED, strategy=strategy, deployments=2))
    schedule.build(set(real_candidates("prefix")), TEAM)
    schedule.change_team({"m1": GBIT, "m4": GBIT}, 1000)
    found.update(repr(list(schedule.placements())).encode())
    found.update(repr([schedule.shares(slot) for slot in range(0, DAY_SLOTS, 7)]).encode())
print(found.hexdigest())
"""


def test_two_processes_make_the_same_schedule() -> None:
    digests = []
    for hash_seed in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        }
        command = [sys.executable, "-c", _DIGEST]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        digests.append(done.stdout)
    assert len(digests[0].strip()) == 64
    assert digests[0] == digests[1]


def test_another_seed_makes_another_schedule() -> None:
    candidates = [relay(n, 1) for n in range(50)]
    one, other = Schedule(Slots(20, SEED)), Schedule(Slots(20, bytes(32)))
    one.build(candidates, TEAM)
    other.build(candidates, TEAM)
    assert places(one.placements()) != places(other.placements())


def test_the_seed_is_secret() -> None:
    assert str(SEED) not in repr(Slots(20, SEED))


# --- uniform ---


def slots_of_the_first(n_seeds: int) -> list[int]:
    """How often each of 24 slots is that of the relay which is placed first, over many seeds."""
    counts = Counter[int]()
    for number in range(n_seeds):
        schedule = Schedule(Slots(24, hashlib.sha256(b"%d" % number).digest()))
        schedule.build([relay(1, 80), relay(2, 50), relay(3, 30)], TEAM)
        counts[schedule.of(fingerprint(1))[0].slot] += 1
    return [counts[slot] for slot in range(24)]


def slots_of_a_small_network() -> list[int]:
    """How many relays are in each hour of a day, with less than a tenth of the team in use."""
    team = {"m1": 1000}
    schedule = Schedule(Slots(2880, SEED))
    schedule.build([relay(n, 1 + n % 50) for n in range(10_000)], team)
    used = sum(placement.rate_bytes for placement in schedule.placements())
    assert used < 2880 * 1000 * 0.1
    counts = Counter(placement.slot // 120 for placement in schedule.placements())
    return [counts[hour] for hour in range(24)]


def test_the_first_relay_is_as_likely_in_any_slot() -> None:
    assert is_uniform(slots_of_the_first(4000))


def test_relays_of_a_small_network_are_as_likely_in_any_slot() -> None:
    assert is_uniform(slots_of_a_small_network())


def test_a_draw_that_prefers_early_slots_one_time_in_five_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fair = Draw.below

    def biased(self: Draw, label: str, bound: int) -> int:
        drawn = fair(self, label, bound)
        return min(drawn, fair(self, label, bound)) if fair(self, label, 5) == 0 else drawn

    monkeypatch.setattr(Draw, "below", biased)
    assert not is_uniform(slots_of_the_first(4000))
    assert not is_uniform(slots_of_a_small_network())


def test_one_slot_in_which_relays_are_a_fifth_more_often_is_found() -> None:
    counts = [1000] * 24
    assert is_uniform(counts)
    assert not is_uniform([1200, *counts[1:-1], 800])


# --- several deployments ---


def test_every_slot_that_is_ours_is_tried() -> None:
    """Half of the slots are ours for a relay, so of eight relays with three slots about one has none."""
    schedule = Schedule(Slots(3, SEED, deployment=1, deployments=2))
    schedule.build([relay(n, 1) for n in range(300)], {"m1": 10_000})
    ours = {n: [slot for slot in range(3) if turn(SEED, fingerprint(n), slot, 2) == 1] for n in range(300)}
    assert all(slot_of(schedule, n)[0] in ours[n] for n in range(300) if ours[n])
    assert {c.fingerprint for c in schedule.unplaced} == {fingerprint(n) for n in range(300) if not ours[n]}
    assert 10 < len(schedule.unplaced) < 70


# --- groups ---


def test_a_group_shares_a_slot() -> None:
    for strategy in ("uniform", "fastest"):
        schedule = built(*(relay(n, 20, n % 4) for n in range(16)), strategy=strategy)
        slots = {n: slot_of(schedule, n) for n in range(16)}
        assert all(slots[n] == slots[n % 4] for n in range(16))
        assert schedule.split_groups == []


def test_a_group_that_is_larger_than_a_slot_is_split_and_told() -> None:
    schedule = built(*(relay(n, 45, 7) for n in range(5)), relay(9, 10, 8))
    assert sorted(Counter(placement.slot for placement in schedule.placements()).values()) == [1, 2, 3]
    (split,) = schedule.split_groups
    assert set(split.members) == {fingerprint(n) for n in range(5)}
    assert split.n_slots == 3


def fewest_slots(rates: tuple[int, ...], capacity: int) -> int:
    """By trying every way."""
    for n_slots in itertools.count(1):
        for choice in itertools.product(range(n_slots), repeat=len(rates)):
            used = [
                sum(r for r, slot in zip(rates, choice, strict=True) if slot == s) for s in range(n_slots)
            ]
            if max(used) <= capacity:
                return n_slots
    raise AssertionError


@pytest.mark.parametrize(
    "rates",
    [
        (60, 50, 30, 20, 20, 20),  # first fit takes three slots for them
        (44, 44, 40, 28, 28, 16),
        (100, 100, 1),
        (51, 51, 51, 49, 49, 49),
        (34, 34, 34, 33, 33, 32),
        (99, 98, 2, 1, 1),
    ],
)
def test_a_group_takes_the_fewest_slots_that_can_hold_it(rates: tuple[int, ...]) -> None:
    schedule = built(*(relay(n, rate, 1) for n, rate in enumerate(rates)), team={"m1": 100})
    assert schedule.split_groups[0].n_slots == fewest_slots(rates, 100)
    assert schedule.unplaced == []


def test_a_member_that_wants_more_than_the_team_has_a_slot_and_the_others_share_one() -> None:
    schedule = built(relay(1, 500, 1), relay(2, 50, 1), relay(3, 50, 1))
    assert slot_of(schedule, 1) != slot_of(schedule, 2) == slot_of(schedule, 3)


def test_a_very_large_group_is_split_too() -> None:
    schedule = built(*(relay(n, 7, 1) for n in range(3000)), n_slots=300)
    assert schedule.unplaced == []
    assert schedule.split_groups[0].n_slots == -(-3000 // (100 // 7))


def test_a_group_for_which_no_slot_has_room_is_measured_apart_rather_than_not_at_all() -> None:
    schedule = built(relay(1, 70), relay(2, 70), relay(3, 20, 1), relay(4, 20, 1), n_slots=2)
    assert schedule.unplaced == []
    assert schedule.split_groups[0].n_slots == 2


# --- later ---


def test_a_new_relay_takes_the_first_slot_with_room_and_moves_nobody() -> None:
    schedule = built(*(relay(n, 90) for n in range(4)), relay(5, 50))
    before = places(schedule.placements())
    assert schedule.place_next(relay(10, 10), 2) == Placement(fingerprint(10), 2, 10, 10)
    assert schedule.place_next(relay(11, 50), 2) == Placement(fingerprint(11), 4, 50, 50)
    assert before < places(schedule.placements())


def test_a_relay_is_never_twice_in_a_slot_nor_more_than_twice_in_a_period() -> None:
    schedule = built(relay(1, 10))
    again = schedule.place_next(relay(1, 20), 0)
    assert again is not None
    assert again.slot == 1
    assert schedule.place_next(relay(1, 20), 0) is None
    schedule.remove(fingerprint(1), 1)
    assert slot_of(schedule, 1) == [0]
    assert schedule.place_next(relay(1, 20), 5) is not None


def test_a_missed_slot_is_caught_up() -> None:
    schedule = built(relay(1, 100), relay(2, 100), relay(3, 100))
    (missed,) = schedule.in_slot(0)
    assert schedule.remove(missed.fingerprint, 0) == [missed]
    caught_up = schedule.place_next(missed.candidate, 1)
    assert caught_up is not None
    assert caught_up.slot == 3


def test_a_new_relay_of_a_group_goes_where_the_group_is_if_there_is_room() -> None:
    schedule = built(relay(1, 100), relay(2, 60, 5), relay(3, 20, 5), relay(4, 1))
    assert slot_of(schedule, 2) == [1]
    near = schedule.place_next(relay(7, 15, 5), 0)
    assert near is not None
    assert near.slot == 1
    far = schedule.place_next(relay(8, 30, 5), 0)
    assert far is not None
    assert far.slot == 2


def test_what_is_removed_leaves_its_room() -> None:
    schedule = built(relay(1, 100), relay(2, 100), n_slots=2)
    schedule.place_unplaced(0)
    waits = relay(3, 100)
    assert schedule.place_next(waits, 0) is None
    assert [placement.slot for placement in schedule.remove(fingerprint(1))] != []
    assert schedule.free_bytes(0) + schedule.free_bytes(1) == 100
    assert schedule.place_next(waits, 0) is not None


def test_what_waits_and_is_removed_does_not_come_back() -> None:
    schedule = built(relay(1, 100), relay(2, 100), n_slots=1)
    (waiting,) = schedule.unplaced
    schedule.remove(waiting.fingerprint)
    schedule.change_team({**TEAM, "m3": 100}, 0)
    assert schedule.of(waiting.fingerprint) == ()


# --- another team ---


def test_a_measurer_that_leaves_moves_only_what_has_to_move() -> None:
    schedule = built(relay(1, 60), relay(2, 40), relay(3, 55), relay(4, 20), relay(5, 25), relay(6, 80))
    old = schedule.in_slot(0)
    assert old[0].rate_bytes == 80
    before = {p.fingerprint: p for p in schedule.placements()}
    moved = schedule.change_team({"m1": 60}, 1)
    after = {p.fingerprint: p for p in schedule.placements()}
    assert schedule.in_slot(0) == old
    assert {p.fingerprint for p in moved} == {f for f in before if before[f].slot != after[f].slot}
    assert {p.rate_bytes for p in moved} == {40, 25}
    assert problems(schedule, {0: TEAM, 1: {"m1": 60}}) == []


def test_a_measurer_that_joins_moves_nobody_and_gives_room_to_what_waits() -> None:
    schedule = built(*(relay(n, 100) for n in range(3)), n_slots=2)
    before = places(schedule.placements())
    assert schedule.change_team({**TEAM, "m3": 100}, 1) == []
    assert before < places(schedule.placements())
    assert schedule.unplaced == []
    assert {placement.slot for placement in schedule.placements()} == {0, 1}


def test_a_relay_that_was_capped_is_measured_with_a_larger_team_when_there_is_one() -> None:
    schedule = built(relay(1, 150))
    schedule.change_team({**TEAM, "m3": 20}, 0)
    assert schedule.of(fingerprint(1))[0].rate_bytes == 120
    schedule.change_team({**TEAM, "m3": 200}, 0)
    assert schedule.of(fingerprint(1)) == (Placement(fingerprint(1), 0, 150, 150),)
    assert schedule.free_bytes(0) == 150


def test_a_team_that_shrinks_below_a_relay_caps_it() -> None:
    schedule = built(relay(1, 90))
    assert schedule.change_team({"m2": 40}, 0) == []
    assert schedule.of(fingerprint(1))[0].capped
    assert schedule.shares(0) == {fingerprint(1): {"m2": 40}}


def test_the_running_slot_keeps_its_team() -> None:
    schedule = built(relay(1, 100), relay(2, 100))
    schedule.change_team({"m9": 100}, 1)
    assert [list(*schedule.shares(slot).values()) for slot in (0, 1)] == [["m1", "m2"], ["m9"]]
    schedule.change_team({"m8": 100}, 1)
    assert [list(*schedule.shares(slot).values()) for slot in (0, 1)] == [["m1", "m2"], ["m8"]]


def test_a_group_that_has_to_move_moves_as_one() -> None:
    schedule = built(relay(1, 50), relay(2, 25, 1), relay(3, 25, 1))
    assert {placement.slot for placement in schedule.placements()} == {0}
    moved = schedule.change_team({"m1": 70}, 0)
    assert {placement.fingerprint for placement in moved} == {fingerprint(2), fingerprint(3)}
    assert slot_of(schedule, 2) == slot_of(schedule, 3) == [1]


def test_when_the_whole_team_leaves_all_wait_and_come_back() -> None:
    schedule = built(*(relay(n, 30) for n in range(12)), strategy="uniform")
    gone = schedule.change_team({}, 10)
    assert {placement.slot >= 10 for placement in gone} == {True}
    assert len(schedule.unplaced) == len(gone) > 0
    schedule.change_team(TEAM, 12)
    assert schedule.unplaced == []
    assert len(list(schedule.placements())) == 12


# --- storing ---


def test_a_stored_schedule_goes_on_where_it_was() -> None:
    before = built(*(relay(n, 10 + n, n % 3 or None) for n in range(12)))
    after = Schedule.restore(before.slots, pickle.loads(pickle.dumps(list(before.placements()))), TEAM, 2)
    assert list(after.placements()) == list(before.placements())
    assert [after.shares(slot) for slot in range(2, 20)] == [before.shares(slot) for slot in range(2, 20)]
    assert after.shares(0) == {}
    one, other = (schedule.place_next(relay(50, 5), 2) for schedule in (before, after))
    assert one == other


def test_a_stored_schedule_and_another_team() -> None:
    before = built(*(relay(n, 30) for n in range(6)))
    after = Schedule.restore(before.slots, before.placements(), {"m1": 60}, 1)
    assert after.in_slot(0) == before.in_slot(0)
    assert problems(after, {0: TEAM, 1: {"m1": 60}}, from_slot=1) == []
    assert after.unplaced == []
