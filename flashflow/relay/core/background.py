"""The cap on background traffic during a measurement (proposal 316, 3.1.4)."""

from flashflow.model.units import from_mbps

FLOOR_ECHO_BYTES = from_mbps(10)
"""x is taken to be at least this many bytes/s, so that some background traffic always passes."""


def echo_floor_bytes(rate_bytes: float | None, ratio: float) -> float:
    """The least x (bytes/s) that the cap is worked out from.

    The proposal's 10 Mbit/s, but no more than the echo traffic that a relay of this rate carries next to its full share
    of background: above that the relay would carry background that the coordinator does not believe.
    """
    return FLOOR_ECHO_BYTES if rate_bytes is None else min(FLOOR_ECHO_BYTES, rate_bytes * (1 - ratio))


class BackgroundCap:
    """How many bytes of background may still be read: y = x r / (1 - r), second by second of the measurement.

    Seconds begin with the measurement, as those of its reports do, so that each report stays within the formula that
    the coordinator applies to the same second.
    """

    __slots__ = ("_echoed_bytes", "_factor", "_floor_bytes", "_second_s", "_used_bytes")

    def __init__(self, ratio: float, rate_bytes: float | None, started_s: float) -> None:
        self._factor = ratio / (1 - ratio)
        self._floor_bytes = echo_floor_bytes(rate_bytes, ratio)
        self._second_s = started_s
        self._echoed_bytes = 0
        self._used_bytes = 0

    def echoed(self, count_bytes: int, now_s: float) -> None:
        """Measurement traffic was read."""
        self._roll(now_s)
        self._echoed_bytes += count_bytes

    def used(self, count_bytes: int, now_s: float) -> None:
        """Background traffic was read."""
        self._roll(now_s)
        self._used_bytes += count_bytes

    def available(self, now_s: float) -> int:
        """Bytes of background that may be read now; never negative."""
        self._roll(now_s)
        echo_bytes = max(self._echoed_bytes, self._floor_bytes * (now_s - self._second_s))
        return max(0, int(echo_bytes * self._factor) - self._used_bytes)

    def _roll(self, now_s: float) -> None:
        passed = int(now_s - self._second_s)
        if passed >= 1:
            self._second_s += passed
            self._echoed_bytes = 0
            self._used_bytes = 0
