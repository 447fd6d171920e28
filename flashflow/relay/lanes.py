"""One direction of all links: as many bytes as the token bucket allows, shared fairly."""

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from flashflow.model.units import CELL_BYTES
from flashflow.relay.buffers import RX_BYTES
from flashflow.relay.celllink import CellLink
from flashflow.relay.core.bucket import TokenBucket
from flashflow.relay.core.effects import Role

TURN_BYTES: Final = RX_BYTES
"""Most bytes of one link in one turn."""
ROUND_BYTES: Final = 16 * TURN_BYTES
"""After so many bytes the loop looks at its timers and at new events again."""
PACE_S: Final = 0.005
"""With a slow bucket, links are served every so often rather than byte by byte."""
MAX_CHUNK_BYTES: Final = 16_384

L = TypeVar("L", bound=CellLink)


class Lane(Generic[L]):
    """Links that wait to read (or to write), in turns.

    Strangers' traffic is background. While there is a cap on it, it goes first, within the cap, so that a measured relay
    still carries its share; otherwise it goes last, so that it cannot keep a measurement from beginning.
    """

    def __init__(
        self, bucket: TokenBucket, visit: Callable[[L, int], int], wants: Callable[[L], bool]
    ) -> None:
        """`visit` lets a link move at most so many bytes, and gives how many it moved."""
        self.bucket: Final = bucket
        self._visit = visit
        self._wants = wants
        self._strangers: deque[L] = deque()
        self._parties: deque[L] = deque()
        self._waiting: set[int] = set()

    def add(self, link: L) -> None:
        """The link waits for its turn, if it wants one and does not wait yet."""
        if link.number not in self._waiting and self._wants(link):
            self._waiting.add(link.number)
            (self._strangers if link.role is Role.STRANGER else self._parties).append(link)

    @property
    def chunk_bytes(self) -> int:
        """So many bytes are worth a turn."""
        rate_bytes = self.bucket.rate_bytes
        if rate_bytes is None:
            return CELL_BYTES
        return int(max(CELL_BYTES, min(MAX_CHUNK_BYTES, rate_bytes * PACE_S)))

    def serve(self, now_s: float, background: Callable[[], int] | None = None) -> None:
        """One round. `background` gives the bytes that strangers may move now; None: no cap."""
        if background is None:
            budget = self._round(self._parties, ROUND_BYTES, now_s, None)
            self._round(self._strangers, budget, now_s, None)
        else:
            budget = self._round(self._strangers, ROUND_BYTES, now_s, background)
            self._round(self._parties, budget, now_s, None)

    def wait_s(self, now_s: float, capped: bool) -> float | None:
        """Seconds until the next round is worth while; None if nobody waits."""
        if not self._waiting:
            return None
        wait_s = self.bucket.wait_s(self.chunk_bytes, now_s)
        # Strangers at the cap wait for echo traffic, or for the floor to rise.
        return max(wait_s, PACE_S) if capped and not self._parties else wait_s

    def _round(self, queue: deque[L], budget: int, now_s: float, cap: Callable[[], int] | None) -> int:
        """Every link in the queue has at most one turn. Gives what is left of `budget`."""
        chunk_bytes = self.chunk_bytes
        for _ in range(len(queue)):
            allowed = min(self.bucket.available(now_s), TURN_BYTES)
            if cap is not None:
                allowed = min(allowed, cap())
            if budget <= 0 or allowed < chunk_bytes:
                break
            link = queue.popleft()
            self._waiting.discard(link.number)
            moved = self._visit(link, allowed)
            self.bucket.take(moved)
            budget -= moved
            self.add(link)
        return budget
