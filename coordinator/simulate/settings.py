"""What a user chooses for a simulation, and what the core gets of it."""

from dataclasses import dataclass
from fractions import Fraction
from typing import get_args

from coordinator.core.colocation import Kind
from coordinator.core.params import Params
from coordinator.core.schedule import Strategy
from flashflow.model.errors import UsageError
from flashflow.model.timing import DRAIN_S, SETUP_S
from flashflow.model.units import from_mbps

WARMUP_S = 2
LONGEST_DURATION_S = 30
"""The duration of a measurement where the slot leaves room for it."""
SHORTEST_SLOT_S = SETUP_S + WARMUP_S + DRAIN_S + 1
MAX_MEASURER_MBPS = 1_000_000
"""Above this a capacity is a mistake of units."""
MAX_TEAM = 100
"""More measurers than this is a mistake."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One simulation."""

    team_bytes: tuple[int, ...]
    """The measurers' capacities, cell bytes/s."""
    slot_s: int = 30
    """Length of a slot."""
    period_s: int = 86400
    """Length of the one period that is simulated."""
    multiplier: Fraction = Fraction(9, 4)
    """m of the paper."""
    epsilon1: Fraction = Fraction(1, 5)
    """How far below the capacity a correct result may be."""
    epsilon2: Fraction = Fraction(1, 20)
    """How far above the capacity a correct result may be."""
    strategy: Strategy = "fastest"
    """How slots are chosen."""
    colocation: frozenset[Kind] = frozenset()
    """What makes relays share a slot."""
    noise: float = 0.0
    """Standard deviation of ln(true capacity / estimate)."""
    seed: int = 0
    """Of every draw: the core's and the noise's."""

    @property
    def duration_s(self) -> int:
        """What a slot leaves for measuring beside set-up, warm-up and drain, at most 30 s."""
        return min(LONGEST_DURATION_S, self.slot_s - SETUP_S - WARMUP_S - DRAIN_S)

    def params(self) -> Params:
        """The core's parameters. Raises UsageError for settings that do not go together."""
        if self.slot_s < SHORTEST_SLOT_S:
            parts = f"set-up {SETUP_S} + warm-up {WARMUP_S} + duration 1 + drain {DRAIN_S}"
            raise UsageError(f"slot: expected at least {SHORTEST_SLOT_S} s ({parts}), got {self.slot_s}")
        if self.period_s % self.slot_s:
            raise UsageError(
                f"period: expected a multiple of the slot of {self.slot_s} s, got {self.period_s}"
            )
        return Params(
            duration_s=self.duration_s,
            warmup_s=WARMUP_S,
            slot_s=self.slot_s,
            period_s=self.period_s,
            multiplier=self.multiplier,
            multiplier_known=self.multiplier,
            epsilon1=self.epsilon1,
            epsilon2=self.epsilon2,
            strategy=self.strategy,
            colocation=self.colocation,
        )


def parse_team(text: str) -> tuple[int, ...]:
    """Capacities such as `1000,1000,500` (Mbit/s) as cell bytes/s. Raises UsageError."""
    words = text.split(",")
    if len(words) > MAX_TEAM:
        raise UsageError(f"team: expected at most {MAX_TEAM} measurers, got {len(words)}")
    return tuple(_capacity(word) for word in words)


def _capacity(word: str) -> int:
    try:
        mbps = float(word)
    except ValueError:
        mbps = 0.0
    if not 1 <= mbps <= MAX_MEASURER_MBPS:  # false for nan too
        raise UsageError(f"team: expected Mbit/s from 1 to {MAX_MEASURER_MBPS} each, got {word[:40]!r}")
    return from_mbps(mbps)


def parse_colocation(text: str) -> frozenset[Kind]:
    """`none`, or some of address, family, prefix with commas between them. Raises UsageError."""
    words = [] if text == "none" else text.split(",")
    kinds = frozenset(kind for kind in get_args(Kind) if kind in words)
    if len(kinds) < len(words):
        expected = "none, or some of address,family,prefix"
        raise UsageError(f"co-location: expected {expected}, got {text[:60]!r}")
    return kinds
