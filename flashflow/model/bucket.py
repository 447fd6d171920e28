"""A bucket of credits for whole things (connections, circuits, lines): a burst, then a rate. Pure: time is an argument."""

from typing import Final

_ROUNDING: Final = 1e-6
"""A bucket that is short of a whole by less than this has it."""


class Bucket:
    """So many at one moment, and then so many a second."""

    def __init__(self, burst: int, per_s: float, now_s: float) -> None:
        self._burst = burst
        self._per_s = per_s
        self._filled_at_s = now_s
        self._credit = float(burst)

    def resize(self, burst: int, per_s: float, now_s: float) -> None:
        """Other limits from now on; what was used up stays so."""
        self.whole(now_s)
        self._burst, self._per_s = burst, per_s
        self._credit = min(self._credit, burst)

    def whole(self, now_s: float) -> int:
        """What can be taken now."""
        self._credit = min(self._burst, self._credit + (now_s - self._filled_at_s) * self._per_s)
        self._filled_at_s = now_s
        return int(self._credit + _ROUNDING)

    def take(self, count: int) -> None:
        """So much is gone."""
        self._credit -= count

    def full(self, now_s: float) -> bool:
        """Whether nothing is missing."""
        return self.whole(now_s) >= self._burst

    def next_s(self) -> float:
        """When there is one, as of the last look."""
        return self._filled_at_s + max(0.0, 1 - self._credit) / self._per_s
