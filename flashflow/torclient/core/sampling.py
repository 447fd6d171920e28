"""Whether what came back is what was sent after its passage through the circuit's keys (proposal 316, appendix A).

In each bucket of N received cells one secret index is drawn, when the bucket begins, and all 509 bytes of that cell are
compared with the sent payload XOR the keystreams of its passage: many samples at once, for one at a time costs a tenth
of all the CPU that echoing does. `verify` has to be called before anything that came is counted. Cells behind the last
checked one count only once `finish` has checked the last received cell, which the relay cannot have told apart from any
other.

In loop mode the relay may end a circuit with TRUNCATED: a cell of its own among those of traffic, the last one.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flashflow.model.errors import PeerError
from flashflow.orlink.cells import PAYLOAD_BYTES
from flashflow.orlink.relaycell import HEADER_BYTES as _DATA_AT
from flashflow.orlink.relaycell import RelayCommand
from flashflow.torclient.core.passage import Layer
from flashflow.torclient.core.stream import EchoStream, KeystreamReader
from flashflow.torctl.reasons import Reason, destroy_reason

DEFAULT_BUCKET_CELLS: Final = 125
"""Appendix A: at 10 Mbit/s a cheat then survives with less than 1 %."""
BATCH_SAMPLES: Final = 32
"""Samples kept before they are verified together."""
_OF_THE_RELAY: Final = bytes(4)
"""What "recognized" and the stream of a cell are that the relay itself made for the circuit."""


class EchoError(PeerError):
    """The relay cheats, or its cipher is out of step."""

    def __init__(self, code: Reason, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        """ECHO_WRONG or ECHO_INVENTED."""


class TruncatedError(PeerError):
    """The last cell that came is no echo: the relay says that the circuit does not reach the far end any more."""

    def __init__(self, code: Reason, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        """As of a DESTROY cell with the same reason."""


class EchoCheck:
    """Checks the echoes of one circuit; `draw(n)` gives a secret number from 0 to n - 1."""

    __slots__ = (
        "_bucket_cells",
        "_draw",
        "_last",
        "_layers",
        "_previous",
        "_samples",
        "_stream",
        "_target",
        "_truncates",
        "received_cells",
    )

    def __init__(
        self,
        *,
        stream: EchoStream,
        passage: Sequence[Layer],
        bucket_cells: int,
        draw: Callable[[int], int],
        truncates: bool = False,
    ) -> None:
        """`truncates`: the last layer is the relay's backward one, and a RELAY cell of its own may end all."""
        self._stream: Final = stream
        self._layers: Final = [(KeystreamReader(layer.key), layer.offset_bytes) for layer in passage]
        self._bucket_cells: Final = bucket_cells
        self._draw: Final = draw
        self._target = -1
        self._last = b""
        self._previous = b""
        self._truncates = truncates
        self._samples: list[tuple[int, bytes]] = []
        self.received_cells = 0
        """Echo cells that came so far."""

    def take(self, payloads: NDArray[np.uint8]) -> None:
        """Takes the payloads, shape (k, 509), of the next echo cells. EchoError if there are more than were sent.

        It may verify what came before, but need not.
        """
        count = len(payloads)
        if count == 0:
            return
        first, end = self.received_cells, self.received_cells + count
        if end > self._stream.sent_cells:
            sent = self._stream.sent_cells
            raise EchoError(Reason.ECHO_INVENTED, f"{end} cells came back, but only {sent} were sent")
        while (target := self._next_target(first, end)) is not None:
            self._samples.append((target, payloads[target - self.received_cells].tobytes()))
            first = target + 1
        self.received_cells = end
        self._previous = payloads[-2].tobytes() if count > 1 else self._last
        self._last = payloads[-1].tobytes()
        if len(self._samples) >= BATCH_SAMPLES:
            self.verify()

    def verify(self) -> None:
        """Checks the samples of all cells that came so far. EchoError if one is wrong, TruncatedError."""
        if not self._samples:
            return
        indices = np.array([index for index, _ in self._samples])
        came = np.frombuffer(b"".join([payload for _, payload in self._samples]), np.uint8)
        self._samples.clear()
        expected = self._stream.payloads(indices)
        for keystream, offset_bytes in self._layers:
            expected = expected ^ keystream.payloads(offset_bytes + PAYLOAD_BYTES * indices)
        wrong = (came.reshape(expected.shape) != expected).any(axis=1)
        if wrong.any():
            index = int(indices[wrong.argmax()])
            self._look_for_truncated(index)
            raise EchoError(
                Reason.ECHO_WRONG, f"echo cell {index} is not what its passage makes of what was sent"
            )

    def finish(self) -> None:
        """`verify`, and the last cell that came too, whatever its bucket said. EchoError, TruncatedError."""
        if self._last:
            self._samples.append((self.received_cells - 1, self._last))
            self.verify()

    def _look_for_truncated(self, index: int) -> None:
        """TruncatedError if cell `index` is the last one, and TRUNCATED; then the one before it is checked instead."""
        if not self._truncates or index != self.received_cells - 1:
            return
        keystream, offset_bytes = self._layers[-1]
        layer = keystream.payloads(np.array([offset_bytes + PAYLOAD_BYTES * index]))[0]
        plain = (np.frombuffer(self._last, np.uint8) ^ layer).tobytes()
        if plain[0] != RelayCommand.TRUNCATED or plain[1:5] != _OF_THE_RELAY:
            return
        self._truncates = False
        self.received_cells -= 1
        self._last, self._previous = self._previous, b""
        self.finish()
        code = plain[_DATA_AT]
        raise TruncatedError(destroy_reason(code), f"TRUNCATED {code}")

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
