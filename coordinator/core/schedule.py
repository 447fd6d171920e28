"""Which relay is measured in which slot of a period, and with how much of which measurer (proposal 316, section 5.2).

At the begin of a period all relays are placed, largest first: `uniform` draws each one's slot among all that have room,
so that nobody can tell it in advance; `fastest` takes the first. So are those that lose their slot with a measurer.
What else comes later (new relays, missed slots, second measurements) takes the first slot with room and moves nobody.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from coordinator.core.draw import Draw
from coordinator.core.packing import SEARCH_STEPS, Crew, crews_of, packed, spread
from coordinator.core.seeds import whose_slot
from flashflow.model.ids import Fingerprint

Strategy = Literal["uniform", "fastest"]
"""Anywhere in the period, or as early as capacity allows."""
EXACT_MEMBERS = 40
"""Groups of more relays are split by first fit alone, which is at most 2/9 above the fewest slots."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A relay to be placed."""

    fingerprint: Fingerprint
    """The relay."""
    rate_bytes: int
    """What it is to be loaded with: f x estimate, within the filter's limit, cell bytes/s."""
    group: int | None = None
    """Relays of one group share a slot; None for a relay on its own."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A relay in a slot."""

    fingerprint: Fingerprint
    """The relay."""
    slot: int
    """0 is the period's first."""
    rate_bytes: int
    """What it is allocated, cell bytes/s; at most what the team has."""
    wanted_bytes: int
    """What it asked for, cell bytes/s."""
    group: int | None = None
    """As in Candidate."""
    crew: int = 0
    """Which part of the team measures it (packing.py); 0 in teams of at most ten."""

    @property
    def capped(self) -> bool:
        """It asked for more than the team has, and so has a slot of the whole team."""
        return self.rate_bytes < self.wanted_bytes

    @property
    def candidate(self) -> Candidate:
        """What was placed."""
        return Candidate(self.fingerprint, self.wanted_bytes, self.group)


@dataclass(frozen=True, slots=True)
class SplitGroup:
    """A group that had to be split."""

    members: tuple[Fingerprint, ...]
    """Its relays that have a slot."""
    n_slots: int
    """The slots that they take."""


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of a period and who may use them."""

    n_slots: int
    """How many the period has."""
    seed: bytes = field(repr=False)
    """The period's seed (seeds.py)."""
    first: int = 0
    """No earlier slot is used: what was over when the schedule was built."""
    strategy: Strategy = "uniform"
    """Of placing them all."""
    deployment: int = 0
    """k: this deployment's number."""
    deployments: int = 1
    """K: how many share the seed and must not collide."""
    allowance: int = 2
    """How often a relay may be measured in a period."""


Item = tuple[Candidate, ...]
"""A relay, or relays that share a slot, largest first."""
Order = Callable[[Item, NDArray[np.intp]], Iterator[int]]
"""The order in which slots with room, given ascending, are tried for an item."""


class Schedule:
    """The placements of one period."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.unplaced: list[Candidate] = []
        """What found no room, in the order in which it was tried."""
        self._teams: list[tuple[int, tuple[Crew, ...]]] = [(0, ())]
        """From which slot on which team counts."""
        self._free = np.zeros((0, slots.n_slots), np.int64)
        """What each crew (row) has left in each slot; nothing in slots before the present team's."""
        self._in_slot: dict[int, dict[Fingerprint, Placement]] = {}
        self._of: dict[Fingerprint, dict[int, Placement]] = {}
        self._mates: dict[int | None, set[Fingerprint]] = {}
        """Who was ever placed as a member of each group."""

    def __repr__(self) -> str:
        return f"Schedule({self.slots}, {list(self.placements())}, unplaced={self.unplaced})"

    # --- placing ---

    def build(self, candidates: Iterable[Candidate], team: Mapping[str, int]) -> None:
        """Place all, largest first, ties by fingerprint; `team` is each measurer's capacity, cell bytes/s."""
        self.unplaced = list(candidates)
        self.change_team(team, self.slots.first)

    def place_next(self, candidate: Candidate, from_slot: int) -> Placement | None:
        """The first slot with room from `from_slot` on, before it one in which its group is; None if there is none.

        Never a slot in which the relay is already, and no more of them than its allowance.
        """
        grouped = candidate.group is not None
        mates = (
            {slot for mate in self._mates.get(candidate.group, ()) for slot in self._of[mate]}
            if grouped
            else set()
        )

        def order(item: Item, slots: NDArray[np.intp]) -> Iterator[int]:
            yield from (int(slot) for slot in slots if slot in mates)
            yield from (int(slot) for slot in slots if slot not in mates)

        slot = self._place((candidate,), from_slot, order if mates else _ascending)
        return None if slot is None else self._of[candidate.fingerprint][slot]

    def place_unplaced(self, from_slot: int) -> None:
        """Try those in `unplaced` in slots from `from_slot` on, by the period's strategy, largest first."""
        uniform = self.slots.strategy == "uniform"
        order = _drawn(Draw(self.slots.seed), f"slots from {from_slot}") if uniform else _ascending
        waiting, self.unplaced = self.unplaced, []
        for item in _items(waiting):
            self._place_item(item, from_slot, order)

    def remove(self, fingerprint: Fingerprint, from_slot: int = 0) -> list[Placement]:
        """Take the relay out of all slots from `from_slot` on; what that was."""
        self.unplaced = [candidate for candidate in self.unplaced if candidate.fingerprint != fingerprint]
        gone = [placement for placement in self.of(fingerprint) if placement.slot >= from_slot]
        for placement in gone:
            self._drop(placement)
            if placement.slot >= self._teams[-1][0]:
                self._free[placement.crew, placement.slot] += placement.rate_bytes
        return gone

    def join(self, fingerprint: Fingerprint, group: int) -> None:
        """A relay on its own becomes a member of a group, where it is."""
        for placement in self.of(fingerprint):
            self._enter(replace(placement, group=group))

    def change_team(self, team: Mapping[str, int], from_slot: int) -> list[Placement]:
        """Another team from `from_slot` on; what had to leave its slot, which now has another or is in `unplaced`."""
        from_slot = max(from_slot, self.slots.first)
        crews = crews_of(team)
        self._teams = [(first, old) for first, old in self._teams if first < from_slot] + [(from_slot, crews)]
        self._free = np.zeros((len(crews), self.slots.n_slots), np.int64)
        self._free[:, from_slot:] = np.array([sum(crew.values()) for crew in crews], np.int64).reshape(-1, 1)
        moved: list[Placement] = []
        for slot in sorted(slot for slot in self._in_slot if slot >= from_slot):
            moved += self._refit(slot)
        self.unplaced += [placement.candidate for placement in moved]
        self.place_unplaced(from_slot)
        return moved

    @classmethod
    def restore(
        cls, slots: Slots, placements: Iterable[Placement], team: Mapping[str, int], from_slot: int
    ) -> "Schedule":
        """A schedule that was stored; with the same team everything from `from_slot` on is where it was."""
        schedule = cls(slots)
        for placement in placements:
            schedule._enter(placement)
        schedule.change_team(team, from_slot)
        return schedule

    # --- looking ---

    def placements(self) -> Iterator[Placement]:
        """All, by slot; what is stored."""
        for slot in sorted(self._in_slot):
            yield from self._in_slot[slot].values()

    def in_slot(self, slot: int) -> tuple[Placement, ...]:
        """The relays of one slot."""
        return tuple(self._in_slot.get(slot, {}).values())

    def of(self, fingerprint: Fingerprint) -> tuple[Placement, ...]:
        """A relay's slots, ascending."""
        mine = self._of.get(fingerprint, {})
        return tuple(mine[slot] for slot in sorted(mine))

    def free_bytes(self, slot: int) -> int:
        """What the team has left in a slot to come, cell bytes/s."""
        return int(self._free[:, slot].sum())

    def shares(self, slot: int) -> dict[Fingerprint, dict[str, int]]:
        """For each relay of a slot what each measurer loads it with, cell bytes/s; exactly its rate_bytes together."""
        crews = next(crews for first, crews in reversed(self._teams) if first <= slot)
        free = [dict(crew) for crew in crews]
        found = {}
        for placement in (
            sorted(self.in_slot(slot), key=lambda p: (-p.rate_bytes, p.fingerprint)) if free else ()
        ):
            share = spread(placement.rate_bytes, free[placement.crew])
            for name, rate in share.items():
                free[placement.crew][name] -= rate
            found[placement.fingerprint] = share
        return found

    @property
    def split_groups(self) -> list[SplitGroup]:
        """The groups whose relays do not share a slot; a relay's first slot is what counts."""
        found: dict[int, dict[Fingerprint, int]] = {}
        for placement in self.placements():
            if placement.group is not None:
                found.setdefault(placement.group, {}).setdefault(placement.fingerprint, placement.slot)
        split = [SplitGroup(tuple(slots), len(set(slots.values()))) for slots in found.values()]
        return [group for group in split if group.n_slots > 1]

    # --- within ---

    def _place_item(self, item: Item, from_slot: int, order: Order) -> None:
        """In one slot if there is any for all of it, else in parts."""
        if self._place(item, from_slot, order) is not None:
            return
        if len(item) == 1:
            self.unplaced.append(item[0])
            return
        parts = self._parts(item)
        if len(parts) == 1:  # an empty slot would hold it, but none is, or none is ours for all of them
            parts = [item[::2], item[1::2]]
        for part in parts:
            self._place_item(part, from_slot, order)

    def _place(self, item: Item, from_slot: int, order: Order) -> int | None:
        """The slot that it got."""
        if any(len(self._of.get(c.fingerprint, ())) >= self.slots.allowance for c in item):
            return None
        rates = self._rates(item)
        first = max(from_slot, self.slots.first)
        room = self._free[:, first:]
        enough = (room >= rates[0]).any(axis=0)
        if len(item) > 1:
            enough &= room.sum(axis=0) >= sum(rates)
        for slot in order(item, np.flatnonzero(enough) + first):
            crews = packed(rates, self._free[:, slot].tolist()) if self._may_use(item, slot) else None
            if crews is not None:
                self._take(item, slot, crews)
                return slot
        return None

    def _may_use(self, item: Item, slot: int) -> bool:
        """Nobody is in it already, and it is this deployment's for all of them."""
        here, slots = self._in_slot.get(slot, {}), self.slots
        return all(
            c.fingerprint not in here
            and whose_slot(slots.seed, c.fingerprint, slot, slots.deployments) == slots.deployment
            for c in item
        )

    def _rates(self, item: Item) -> list[int]:
        """What each is allocated: what it asks for, at most what the largest crew has, if there is one."""
        wanted = [candidate.rate_bytes for candidate in item]
        crews = self._teams[-1][1]
        return [min(rate, sum(crews[0].values())) for rate in wanted] if crews else wanted

    def _parts(self, item: Item) -> list[Item]:
        """A group in as few parts as there are empty slots needed for it, as far as packed() finds out."""
        rates, rooms = self._rates(item), [sum(crew.values()) for crew in self._teams[-1][1]]
        if not rooms:
            return [item]
        places = packed(rates, rooms * len(item)) or []
        n_slots = max(places) // len(rooms) + 1
        for fewer in range(-(-sum(rates) // sum(rooms)), n_slots) if len(item) <= EXACT_MEMBERS else ():
            better = packed(rates, rooms * fewer, SEARCH_STEPS)
            if better is not None:
                places, n_slots = better, fewer
                break
        parts: dict[int, list[Candidate]] = {}
        for candidate, place in zip(item, places, strict=True):
            parts.setdefault(place // len(rooms), []).append(candidate)
        return [tuple(part) for part in parts.values()]

    def _refit(self, slot: int) -> list[Placement]:
        """Put the relays of a slot into the present team's capacity, groups as one; what does not fit any more."""
        here = dict(self._in_slot[slot])
        for placement in here.values():
            self._drop(placement)
        others, moved = [], []
        for item in _items(placement.candidate for placement in here.values()):
            crews = [here[candidate.fingerprint].crew for candidate in item]
            if self._fits(item, slot, crews):
                self._take(item, slot, crews)
            else:
                others.append(item)
        for item in others:
            found = packed(self._rates(item), self._free[:, slot].tolist())
            if found is not None:
                self._take(item, slot, found)
            else:
                moved += [here[candidate.fingerprint] for candidate in item]
        return moved

    def _fits(self, item: Item, slot: int, crews: list[int]) -> bool:
        free = dict(enumerate(self._free[:, slot].tolist()))
        for rate, crew in zip(self._rates(item), crews, strict=True):
            free[crew] = free.get(crew, 0) - rate
        return all(left >= 0 for left in free.values())

    def _take(self, item: Item, slot: int, crews: list[int]) -> None:
        for candidate, rate, crew in zip(item, self._rates(item), crews, strict=True):
            self._free[crew, slot] -= rate
            self._enter(
                Placement(candidate.fingerprint, slot, rate, candidate.rate_bytes, candidate.group, crew)
            )

    def _enter(self, placement: Placement) -> None:
        self._in_slot.setdefault(placement.slot, {})[placement.fingerprint] = placement
        self._of.setdefault(placement.fingerprint, {})[placement.slot] = placement
        if placement.group is not None:
            self._mates.setdefault(placement.group, set()).add(placement.fingerprint)

    def _drop(self, placement: Placement) -> None:
        del self._of[placement.fingerprint][placement.slot]
        del self._in_slot[placement.slot][placement.fingerprint]


def _items(candidates: Iterable[Candidate]) -> list[Item]:
    """The candidates with each group as one, largest first; a relay that is to be measured again is apart."""
    ordered = sorted(candidates, key=lambda c: (-c.rate_bytes, c.fingerprint))
    together: dict[tuple[int | Fingerprint, int], list[Candidate]] = {}
    times: Counter[Fingerprint] = Counter()
    for candidate in ordered:
        key = candidate.fingerprint if candidate.group is None else candidate.group
        together.setdefault((key, times[candidate.fingerprint]), []).append(candidate)
        times[candidate.fingerprint] += 1
    items = [tuple(members) for members in together.values()]
    return sorted(items, key=lambda item: -sum(candidate.rate_bytes for candidate in item))


def _ascending(item: Item, slots: NDArray[np.intp]) -> Iterator[int]:
    return map(int, slots)


def _drawn(draw: Draw, purpose: str) -> Order:
    """Each time one of those that are left, all equally likely: so the first that will do is uniform among such."""

    def order(item: Item, slots: NDArray[np.intp]) -> Iterator[int]:
        label = f"{purpose}/{item[0].fingerprint}"
        for left in range(len(slots), 0, -1):
            at = draw.below(label, left)
            yield int(slots[at])
            slots[at] = slots[left - 1]

    return order
