"""A finished measurement, successful or not, as it is stored."""

from dataclasses import dataclass

from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint, MeasId
from flashflow.model.reports import SecondReport


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a measurement failed."""

    kind: ErrorKind
    """Whose fault."""
    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class MeasurerShare:
    """One measurer's part in a measurement."""

    name: str
    """The measurer's certificate name."""
    allocated_bytes: int
    """The rate it was told to load the relay with, cell bytes/s."""
    n_circs: int
    """Circuits it was told to build."""
    reports: tuple[SecondReport, ...]
    """What it reported, by ascending second; seconds may be missing."""


@dataclass(frozen=True, slots=True)
class MeasurementRecord:
    """Everything about a measurement that ended."""

    meas_id: MeasId
    """The measurement's id; unique together with started_utc_s."""
    fingerprint: Fingerprint
    """The relay."""
    nickname: str
    """The relay's nickname at that time."""
    mode: str
    """`echo` or `loop`."""
    started_utc_s: float
    """When the measurement was begun, UTC."""
    active_utc_s: float | None
    """When second 1 began (after the warm-up), UTC; None if it never did."""
    ended_utc_s: float
    """When it ended, UTC."""
    duration_s: int
    """Seconds that were to be measured (D)."""
    background_ratio: float
    """r, the largest share of background traffic that is believed."""
    shares: tuple[MeasurerShare, ...]
    """The measurers, in order of name."""
    background: tuple[SecondReport, ...]
    """The relay's background reports, by ascending second."""
    result_bytes: int | None
    """Median of the per-second totals, cell bytes/s; None if it failed."""
    background_bytes: int | None
    """Median of the background that was believed, cell bytes/s; None if it failed."""
    accepted: bool
    """The result is below what was allocated by the paper's margin; else it is a lower bound."""
    failure: Failure | None
    """Why it failed; None if it did not."""
    bandwidth_avg_bytes: int | None
    """The descriptor's bandwidth-avg at that time, bytes/s, which caps what is published."""
    team_limited: bool = False
    """Not accepted, and the team, or the filter's rate limit, has no more to load the relay with."""

    @property
    def allocated_bytes(self) -> int:
        """Sum of the measurers' allocations, cell bytes/s."""
        return sum(share.allocated_bytes for share in self.shares)
