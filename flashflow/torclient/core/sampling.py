"""Whether what came back is the decryption of what was sent (proposal 316, appendix A).

In each bucket of N received cells one secret index is drawn, when the bucket begins, and all 509 bytes of that cell are
compared with the sent payload XOR the relay's forward keystream. Cells behind the last checked one count only once
`finish` has checked the last received cell, which the relay cannot have told apart from any other.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flashflow.model.errors import PeerError
from flashflow.orlink.cells import PAYLOAD_BYTES
from flashflow.torclient.core.stream import EchoStream, KeystreamReader
from flashflow.torctl.reasons import Reason

DEFAULT_BUCKET_CELLS: Final = 125
"""Appendix A: at 10 Mbit/s a cheat then survives with less than 1 %."""


class EchoError(PeerError):
    """The relay cheats, or its cipher is out of step."""

    def __init__(self, code: Reason, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        """ECHO_WRONG or ECHO_INVENTED."""


class EchoCheck:
    """Checks the echoes of one circuit.

    `forward_offset_bytes` is how far relay cells have moved the relay's forward keystream before the first echo cell;
    `draw(n)` gives a secret number from 0 to n - 1.
    """

    __slots__ = (
        "_bucket_cells",
        "_draw",
        "_forward",
        "_last",
        "_offset_bytes",
        "_stream",
        "_target",
        "received_cells",
    )

    def __init__(
        self,
        *,
        stream: EchoStream,
        forward_key: bytes,
        forward_offset_bytes: int,
        bucket_cells: int,
        draw: Callable[[int], int],
    ) -> None:
        self._stream: Final = stream
        self._forward = KeystreamReader(forward_key)
        self._offset_bytes: Final = forward_offset_bytes
        self._bucket_cells: Final = bucket_cells
        self._draw: Final = draw
        self._target = -1
        self._last: NDArray[np.uint8] | None = None
        self.received_cells = 0
        """Echo cells that came so far."""

    def take(self, payloads: NDArray[np.uint8]) -> None:
        """Takes the payloads, shape (k, 509), of the next echo cells. EchoError at the first flaw."""
        count = len(payloads)
        if count == 0:
            return
        first, end = self.received_cells, self.received_cells + count
        if end > self._stream.sent_cells:
            sent = self._stream.sent_cells
            raise EchoError(Reason.ECHO_INVENTED, f"{end} cells came back, but only {sent} were sent")
        while (target := self._next_target(first, end)) is not None:
            self._compare(target, payloads[target - self.received_cells])
            first = target + 1
        self.received_cells = end
        self._last = payloads[-1].copy()

    def finish(self) -> None:
        """Checks the last cell that came, whatever its bucket said. EchoError if it is wrong."""
        if self._last is not None:
            self._compare(self.received_cells - 1, self._last)

    def _next_target(self, first: int, end: int) -> int | None:
        """The next cell to check among cells `first` to `end` - 1, drawing it if its bucket begins with them."""
        while True:
            if self._target < first:
                bucket = -(-first // self._bucket_cells)  # the first bucket that begins at `first` or later
                if bucket * self._bucket_cells >= end:
                    return None
                self._target = bucket * self._bucket_cells + self._draw(self._bucket_cells)
            if self._target < end:
                return self._target
            return None

    def _compare(self, index: int, came: NDArray[np.uint8]) -> None:
        key = self._forward.payload(self._offset_bytes + PAYLOAD_BYTES * index)
        if (came ^ np.frombuffer(key, np.uint8)).tobytes() != self._stream.payload(index):
            raise EchoError(Reason.ECHO_WRONG, f"echo cell {index} is not the decryption of what was sent")
