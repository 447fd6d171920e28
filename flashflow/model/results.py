"""A finished measurement, successful or not, as it is stored."""

from dataclasses import dataclass
from enum import StrEnum

from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint, MeasId, Mode
from flashflow.model.reports import SecondReport


class Fault(StrEnum):
    """Who made a measurement fail."""

    RELAY = "relay"
    MEASURER = "measurer"
    NETWORK = "network"
    OURS = "ours"


_FAULTS = {
    ErrorKind.PEER: Fault.RELAY,
    ErrorKind.NETWORK: Fault.NETWORK,
    ErrorKind.LOCAL: Fault.OURS,
    ErrorKind.BUG: Fault.OURS,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a measurement failed."""

    kind: ErrorKind
    """What kind of error it was; a peer's is the relay's."""
    reason: str
    """One line."""
    by_measurer: bool = False
    """A measurer, its host or its session failed, or it broke the protocol."""
    forged: bool = False
    """The relay was caught sending back what it had not made of what it was sent."""

    @property
    def fault(self) -> Fault:
        """Who made it fail: what becomes of the relay's published result goes by this."""
        return Fault.MEASURER if self.by_measurer else _FAULTS[self.kind]


@dataclass(frozen=True, slots=True)
class Standing:
    """What a relay did since its last result; a relay without relay-caused failures has none."""

    fingerprint: Fingerprint
    """The relay."""
    nickname: str
    """Its nickname at the last of them."""
    mode: str
    """The mode of the last of them."""
    ended_utc_s: float
    """When the last of them ended, UTC."""
    relay_failures: int
    """Measurements that it made fail since its last result."""
    forgeries: int
    """Those of them in which it was caught forging."""

    @property
    def excluded(self) -> bool:
        """Its old result is not published any more, until there is a new one."""
        return self.forgeries > 0 or self.relay_failures >= MAX_RELAY_FAILURES


MAX_RELAY_FAILURES = 3
"""After so many failures in a row that the relay caused, its old result counts no more."""


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
    mode: Mode
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
