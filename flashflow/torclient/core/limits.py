"""How fast circuits of loop measurements may be opened, so that no defence of the network takes us for a flood.

A relay of stock tor refuses an address, or bans it for a day, that connects or creates circuits faster than the consensus
allows. What of that is ours is in `flashflow.model.network`. Failed attempts count like all others, and so do circuits
that take the place of lost ones.
"""

from typing import Final

from flashflow.model.network import NetworkLimits

_ROUNDING: Final = 1e-6
"""A bucket that is short of a whole by less than this has it."""


class _Bucket:
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


class Openings:
    """What may be opened to one relay: connections with one circuit on each."""

    def __init__(self, limits: NetworkLimits, now_s: float) -> None:
        self._connections: Final = _Bucket(limits.connections_burst, limits.connections_per_s, now_s)
        self._circuits: Final = _Bucket(limits.circuits_burst, limits.circuits_per_s, now_s)
        self._buckets: Final = (self._connections, self._circuits)

    def resize(self, limits: NetworkLimits, now_s: float) -> None:
        """The limits of another measurement of the same relay."""
        self._connections.resize(limits.connections_burst, limits.connections_per_s, now_s)
        self._circuits.resize(limits.circuits_burst, limits.circuits_per_s, now_s)

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
