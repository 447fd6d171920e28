"""How fast circuits of loop measurements may be opened, so that no defence of the live network takes us for a flood.

A relay of stock tor bans an address for a day that connects or creates circuits faster than the consensus allows (2024:
20 connections a second and 40 in a burst, 50 at once; from the third connection on 2 circuits a second and 60 in a
burst). Here is half of that, for two measurers may share an address. Failed attempts count like all others.
"""

from typing import Final

MAX_CIRCUITS_RELAY: Final = 40
"""Most circuits, each its own connection, to one relay at once."""
CONNECTIONS_BURST: Final = 20
CONNECTIONS_PER_S: Final = 10.0
CREATES_BURST: Final = 30
CREATES_PER_S: Final = 2.0
_ROUNDING: Final = 1e-6
"""A bucket that is short of a whole by less than this has it."""


class _Bucket:
    def __init__(self, burst: int, per_s: float, now_s: float) -> None:
        self._burst: Final = burst
        self._per_s: Final = per_s
        self._filled_at_s = now_s
        self._credit = float(burst)

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


class Openings:
    """What may be opened to one relay: connections with one circuit on each."""

    def __init__(self, now_s: float) -> None:
        self._buckets: Final = (
            _Bucket(CONNECTIONS_BURST, CONNECTIONS_PER_S, now_s),
            _Bucket(CREATES_BURST, CREATES_PER_S, now_s),
        )

    def take(self, wanted: int, now_s: float) -> int:
        """How many of the wanted ones may be opened now; they count as opened."""
        count = min(wanted, *(bucket.whole(now_s) for bucket in self._buckets))
        for bucket in self._buckets:
            bucket.take(count)
        return count

    def next_s(self) -> float:
        """When one more may be opened, as of the last `take`."""
        return max(bucket.next_s() for bucket in self._buckets)

    def forgettable(self, now_s: float) -> bool:
        """Whether a new one would allow no more than this one."""
        return all(bucket.full(now_s) for bucket in self._buckets)
