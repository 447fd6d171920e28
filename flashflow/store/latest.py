"""The result of a relay that counts at present. Pure."""

from dataclasses import dataclass

from flashflow.model.ids import Fingerprint


@dataclass(frozen=True, slots=True)
class LatestResult:
    """A relay's newest accepted result, or its newest result where none was accepted."""

    fingerprint: Fingerprint
    """The relay."""
    nickname: str
    """Its nickname at that time."""
    mode: str
    """`echo` or `loop`."""
    ended_utc_s: float
    """When the measurement ended, UTC."""
    result_bytes: int
    """Median of the per-second totals, cell bytes/s."""
    background_bytes: int
    """Median of the background that was believed, cell bytes/s."""
    accepted: bool
    """False for a lower bound."""
    bandwidth_avg_bytes: int | None
    """The descriptor's bandwidth-avg at that time, bytes/s."""
    team_limited: bool = False
    """A lower bound because the team, or the filter's rate limit, has no more to load the relay with."""
