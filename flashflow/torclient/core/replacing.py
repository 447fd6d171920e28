"""Circuits of a loop measurement that are lost while it runs are replaced, or the measurement fails with the reason.

A circuit that was lost once it carried traffic gets one in its place. What the relay refuses is never asked for again, and
there are never more replacements than the measurement had circuits: a relay cannot keep us busy by destroying them.
"""

from typing import Final

from flashflow.model.errors import ErrorKind
from flashflow.torctl.reasons import Reason, describe

BUILT_WITHIN_S: Final = 4.0
"""A replacement is built within this after the loss, the wait for a chance to open it included."""
REFUSALS: Final = frozenset({Reason.CIRCUIT_REFUSED, Reason.DESTROY_RESOURCELIMIT, Reason.LINK_FAILED})
"""The relay does not want more circuits, or connections, of ours: it may defend itself against a flood."""
FINAL: Final = REFUSALS | {Reason.DESTROY_HIBERNATING, Reason.RELAY_PROTOCOL}
"""Reasons for a circuit's end after which there is no sense in another one."""


class Replacements:
    """Those of one measurement that had `circuits` circuits."""

    def __init__(self, circuits: int) -> None:
        self._left = circuits
        self._under_way: dict[int, tuple[float, str]] = {}

    def wanted(self, circ_id: int, reason: str) -> bool:
        """Whether a circuit that was lost for `reason` is to be replaced; else the measurement is over."""
        return self._left > 0 and circ_id not in self._under_way and reason not in FINAL

    def why(self, circ_id: int, reason: str) -> str:
        """Why the measurement is over if the end of `circ_id` for `reason` was not to be replaced.

        The network takes no blame for what a relay brings about: that it destroyed more circuits than it may, or one
        and then refused to have another in its place.
        """
        if describe(reason)[0] is not ErrorKind.NETWORK:
            return reason
        if circ_id in self._under_way:
            return self._under_way[circ_id][1]
        return reason if self._left > 0 else Reason.RELAY_CLOSED

    def begin(self, circ_id: int, reason: str, now_s: float) -> None:
        """Circuit `circ_id` is to be built in place of one that was lost just now."""
        self._left -= 1
        self._under_way[circ_id] = (now_s + BUILT_WITHIN_S, reason)

    def built(self, circ_id: int) -> None:
        """It carries traffic."""
        self._under_way.pop(circ_id, None)

    def next_s(self) -> float | None:
        """When the next one has to be built; None if none is under way."""
        return min((until_s for until_s, _ in self._under_way.values()), default=None)

    def late(self, now_s: float) -> str | None:
        """Why the circuit was lost whose replacement has not been built in time; None if there is none such."""
        return next((why for until_s, why in self._under_way.values() if until_s <= now_s), None)
