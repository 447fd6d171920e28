"""A token bucket: exact bytes per second, with a small burst."""

from flashflow.model.units import CELL_BYTES

BURST_S = 0.02
"""Unused tokens are kept for this long: enough to make up for a late wake-up, too little to matter in a second."""
MIN_BURST_BYTES = 8 * CELL_BYTES
UNLIMITED_BYTES = 1 << 40
"""What an unlimited bucket always has."""


class TokenBucket:
    """Tokens of one byte each. `rate_bytes` None means no limit.

    What it lets through in any time t is at most rate x t + burst, and, while something always waits for it and it is
    asked at least every `burst_s`, at least rate x t - burst.
    """

    __slots__ = ("_burst_bytes", "_burst_s", "_filled_s", "_rate_bytes", "_tokens")

    def __init__(self, rate_bytes: float | None, now_s: float, burst_s: float = BURST_S) -> None:
        self._burst_s = burst_s
        self._tokens = 0.0
        self._filled_s = now_s
        self._rate_bytes: float | None = None
        self.set_rate(rate_bytes, now_s)

    @property
    def rate_bytes(self) -> float | None:
        """Bytes per second, or None."""
        return self._rate_bytes

    def set_rate(self, rate_bytes: float | None, now_s: float) -> None:
        """A new rate from now on; what was left of the old one stays, up to the new burst."""
        self._refill(now_s)
        self._rate_bytes = rate_bytes
        self._burst_bytes = max(MIN_BURST_BYTES, (rate_bytes or 0.0) * self._burst_s)
        self._tokens = min(self._tokens, self._burst_bytes)

    def available(self, now_s: float) -> int:
        """Whole bytes that may pass now; never negative."""
        if self._rate_bytes is None:
            return UNLIMITED_BYTES
        self._refill(now_s)
        return max(0, int(self._tokens))

    def take(self, count_bytes: int) -> None:
        """`count_bytes` have passed; more than were available leave a debt that is paid first."""
        if self._rate_bytes is not None:
            self._tokens -= count_bytes

    def wait_s(self, count_bytes: int, now_s: float) -> float:
        """Seconds until `count_bytes` (at most the burst) are available."""
        if self._rate_bytes is None:
            return 0.0
        self._refill(now_s)
        return max(0.0, (min(count_bytes, self._burst_bytes) - self._tokens) / self._rate_bytes)

    def _refill(self, now_s: float) -> None:
        if self._rate_bytes is not None and now_s > self._filled_s:
            gained = (now_s - self._filled_s) * self._rate_bytes
            self._tokens = min(self._burst_bytes, self._tokens + gained)
        self._filled_s = max(now_s, self._filled_s)
