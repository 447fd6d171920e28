"""How fast circuits of loop measurements may be opened, so that no defence of the network takes us for a flood.

A relay of stock tor refuses an address, or bans it for a day, that connects or creates circuits faster than the consensus
allows. What of that is ours is in `flashflow.model.network`. Failed attempts count like all others, and so do circuits
that take the place of lost ones.
"""

from typing import Final

from flashflow.model.bucket import Bucket
from flashflow.model.network import NetworkLimits


class Openings:
    """What may be opened to one relay: connections with one circuit on each."""

    def __init__(self, limits: NetworkLimits, now_s: float) -> None:
        self._connections: Final = Bucket(limits.connections_burst, limits.connections_per_s, now_s)
        self._circuits: Final = Bucket(limits.circuits_burst, limits.circuits_per_s, now_s)
        self._buckets: Final = (self._connections, self._circuits)

    def resize(self, limits: NetworkLimits, now_s: float) -> None:
        """The limits of another measurement of the same relay."""
        self._connections.resize(limits.connections_burst, limits.connections_per_s, now_s)
        self._circuits.resize(limits.circuits_burst, limits.circuits_per_s, now_s)

    def take(self, wanted: int, now_s: float) -> int:
        """How many of the wanted ones may be opened now; they count as opened."""
        count = max(0, min(wanted, *(bucket.whole(now_s) for bucket in self._buckets)))
        for bucket in self._buckets:
            bucket.take(count)
        return count

    def repeated(self, now_s: float) -> None:
        """A circuit was created once more on its connection: what that was too many, the next ones wait longer."""
        self._circuits.whole(now_s)
        self._circuits.take(1)

    def next_s(self) -> float:
        """When one more may be opened, as of the last `take`."""
        return max(bucket.next_s() for bucket in self._buckets)

    def forgettable(self, now_s: float) -> bool:
        """Whether a new one would allow no more than this one."""
        return all(bucket.full(now_s) for bucket in self._buckets)
