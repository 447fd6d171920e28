"""The payloads a measurer sends: one AES-CTR keystream per circuit under its own secret, never repeated.

The keystream covers whole cells, 514 bytes each, and headers are written over its first 5: so a buffer is filled in one
call. The payload of cell i is thus the keystream from byte 514 * i + 5 on.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from flashflow.orlink.bulk import HEADER_BYTES, Cells
from flashflow.orlink.cells import CELL_BYTES, PAYLOAD_BYTES
from flashflow.orlink.relaycrypto import AesCtr, keystream

SECRET_BYTES: Final = 16
CHUNK_CELLS: Final = 127
"""Cells filled in one call: their buffer (64 KiB, just under 4 TLS records) stays in the CPU's cache."""
_ZEROS: Final = memoryview(bytes(CHUNK_CELLS * CELL_BYTES))


class EchoStream:
    """The cells that one circuit sends, in order."""

    __slots__ = ("_cipher", "_header", "_secret", "sent_cells")

    def __init__(self, secret: bytes, header: bytes) -> None:
        self._secret: Final = secret
        self._header: Final[NDArray[np.uint8]] = np.frombuffer(header, np.uint8)
        self._cipher = AesCtr(secret)
        self.sent_cells = 0
        """Cells made so far."""

    def fill(self, out: Cells) -> memoryview:
        """Overwrites `out`, at most CHUNK_CELLS contiguous cells, with the next ones; gives their bytes."""
        data = out.data.cast("B")
        self._cipher.crypt_into(_ZEROS[: len(data)], data)
        out[:, :HEADER_BYTES] = self._header
        self.sent_cells += len(out)
        return data

    def payload(self, index: int) -> bytes:
        """The payload of cell `index` (from 0) once more, 509 bytes."""
        return keystream(self._secret, CELL_BYTES * index + HEADER_BYTES, PAYLOAD_BYTES)
