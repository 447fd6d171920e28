"""What is planned for a relay, and what was done, in one period: as it is kept over a restart."""

from dataclasses import dataclass

from flashflow.model.ids import Fingerprint


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One relay's plan."""

    fingerprint: Fingerprint
    """The relay."""
    slot: int | None
    """The slot that it has, counted from the period's start; None if it has none."""
    rate_bytes: int
    """What it is to be loaded with in that slot, cell bytes/s; 0 without a slot."""
    wanted_bytes: int
    """What it was to have if the team were large enough, cell bytes/s."""
    group: int | None
    """Relays of one group share a slot; None for a relay on its own."""
    crew: int
    """Which part of the team measures it."""
    runs: int
    """Measurements of it that were begun in the period, whatever became of them."""
    done: bool
    """Nothing more is planned for it in the period."""
    raised_bytes: int
    """The estimate that results which were not accepted have raised, cell bytes/s; 0 for none."""
