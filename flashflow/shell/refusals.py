"""Lines in the log about whoever is refused: the first of a kind at once, then one a minute that says how many more."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

EVERY_S = 60.0
"""A kind of refusal gets a line this often."""
MAX_KINDS = 64
"""Kinds that are told apart; all others are one."""
_VARIES = re.compile(r"\d+|[0-9a-f]{8,}", re.IGNORECASE)


@dataclass(slots=True)
class _Kind:
    quiet_until_s: float
    left_out: int = 0


class RefusalLog:
    """Bounded in lines and in memory, whatever strangers do."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}

    def refused(self, what: str, host: str, reason: str) -> None:
        """`what` from `host` was refused; reasons that differ in numbers only are one kind."""
        self._warn(f"{what} {reason}", f"refused a {what} from {host}: {reason}")

    def warn(self, text: str) -> None:
        """Something else that a peer can bring about as often as it likes."""
        self._warn(text, text)

    def _warn(self, sort: str, text: str) -> None:
        now_s = self._clock()
        kind = self._kind_of(_VARIES.sub("#", sort), now_s)
        if now_s < kind.quiet_until_s:
            kind.left_out += 1
            return
        more = f" (and {kind.left_out} more like it since the last such line)" if kind.left_out else ""
        log.warning("%s%s", text, more)
        kind.quiet_until_s, kind.left_out = now_s + EVERY_S, 0

    def _kind_of(self, key: str, now_s: float) -> _Kind:
        if key not in self._kinds and len(self._kinds) >= MAX_KINDS:
            self._kinds = {old: kind for old, kind in self._kinds.items() if now_s < kind.quiet_until_s}
            if len(self._kinds) >= MAX_KINDS:
                key = ""
        return self._kinds.setdefault(key, _Kind(now_s))
