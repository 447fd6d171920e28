"""What is asked of any schedule, counted here anew from its placements, and the real network to schedule."""

import asyncio
import hashlib
import hmac
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from coordinator.core.colocation import Kind, groups
from coordinator.core.estimate import candidates, estimates
from coordinator.core.params import Params
from coordinator.core.schedule import Candidate, Placement, Schedule
from flashflow.directory.files import load_relays
from flashflow.model.ids import Fingerprint
from flashflow.model.relay import RelayInfo

REAL_CONSENSUS = Path(__file__).parents[1] / "vectors" / "directory" / "consensus-2020-03-05-10-00-00.xz"
SEED = bytes(range(32))
GBIT = 125_000_000
TEAM = {"m1": GBIT, "m2": GBIT, "m3": GBIT}
DAY_SLOTS = 2880
"""Of 30 s."""


@cache
def real_relays() -> tuple[RelayInfo, ...]:
    """The public network of March 2020."""
    return asyncio.run(load_relays(REAL_CONSENSUS, None))


@cache
def real_candidates(kind: Kind | None = None) -> tuple[Candidate, ...]:
    """What is to be scheduled of it with the default parameters."""
    relays = real_relays()
    together = groups(relays, frozenset({kind} if kind else ()))
    return tuple(candidates(estimates(relays, {}, {}, {}), {}, together, Params()))


def fingerprint(number: int) -> Fingerprint:
    """Of relay `number`."""
    return Fingerprint(hashlib.sha1(f"relay {number}".encode()).hexdigest().upper())


def problems(schedule: Schedule, teams: Mapping[int, Mapping[str, int]], from_slot: int = 0) -> list[str]:
    """What is wrong with a schedule, in slots from `from_slot` on; `teams` tells from which slot on which one counts."""
    placements = list(schedule.placements())
    found = [
        f"{relay} twice in slot {slot}"
        for (relay, slot), n in Counter((p.fingerprint, p.slot) for p in placements).items()
        if n > 1
    ]
    allowed = schedule.slots.allowance
    times = Counter(p.fingerprint for p in placements)
    found += [f"{relay} {n} times" for relay, n in times.items() if n > allowed]
    for slot in sorted({p.slot for p in placements if p.slot >= from_slot}):
        team = teams[max(first for first in teams if first <= slot)]
        found += _problems_of_slot(schedule, slot, team)
    return found


def _problems_of_slot(schedule: Schedule, slot: int, team: Mapping[str, int]) -> list[str]:
    shares = schedule.shares(slot)
    rates = {p.fingerprint: p.rate_bytes for p in schedule.in_slot(slot)}
    used: Counter[str] = Counter()
    found = [] if set(shares) == set(rates) else [f"slot {slot}: shares of other relays"]
    for relay, of_one in shares.items():
        used.update(of_one)
        if len(of_one) > 10 or sum(of_one.values()) != rates[relay] or min(of_one.values()) <= 0:
            found.append(f"slot {slot}: {relay} with {rates[relay]} has {of_one}")
    found += [f"slot {slot}: {name} has {n}" for name, n in used.items() if n > team.get(name, 0)]
    return found


def turn(seed: bytes, relay: Fingerprint, slot: int, deployments: int) -> int:
    """Whose turn it is, by the rule of the plan, computed apart."""
    message = bytes.fromhex(relay) + bytes([slot >> 24, slot >> 16 & 255, slot >> 8 & 255, slot & 255])
    return int(hmac.new(seed, message, hashlib.sha256).hexdigest(), 16) % deployments


def is_uniform(counts: Iterable[int]) -> bool:
    """Chi-square at the level of 1 in 1000 (Wilson and Hilferty's approximation of the critical value)."""
    seen = list(counts)
    expected, freedom = sum(seen) / len(seen), len(seen) - 1
    statistic = sum((count - expected) ** 2 / expected for count in seen)
    spread = 2 / (9 * freedom)
    return statistic < freedom * (1 - spread + 3.0902 * math.sqrt(spread)) ** 3


def places(placements: Iterable[Placement]) -> set[tuple[Fingerprint, int]]:
    """Who is where."""
    return {(p.fingerprint, p.slot) for p in placements}
