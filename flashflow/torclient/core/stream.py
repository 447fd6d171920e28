"""The payloads a measurer sends: one AES-CTR keystream per circuit under its own secret, never repeated.

The keystream covers whole cells, 514 bytes each, and headers are written over its first 5: so a buffer is filled in one
call. The payload of cell i is thus the keystream from byte 514 * i + 5 on.
"""

from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from flashflow.orlink.bulk import HEADER_BYTES, Cells
from flashflow.orlink.cells import CELL_BYTES, PAYLOAD_BYTES

SECRET_BYTES: Final = 16
CHUNK_CELLS: Final = 127
"""Cells filled in one call: their buffer (64 KiB, just under 4 TLS records) stays in the CPU's cache."""
_BLOCK_BYTES: Final = 16
_PAYLOAD_BLOCKS: Final = 33
"""Blocks that hold a payload wherever it begins in the first one."""
_COUNTS: Final = np.arange(_PAYLOAD_BLOCKS)
_ZEROS: Final = memoryview(bytes(CHUNK_CELLS * CELL_BYTES))


class KeystreamReader:
    """Any pieces of an AES-128-CTR keystream with a zero IV.

    CTR's keystream is the block cipher over a counter. Seeking in a CTR context means a new context each time, which
    costs ten times what it takes to encrypt the few counters of a cell in a context that stays.
    """

    __slots__ = ("_blocks",)

    def __init__(self, key: bytes) -> None:
        self._blocks = Cipher(algorithms.AES(key), modes.ECB()).encryptor()

    def payloads(self, offsets_bytes: NDArray[np.int64]) -> NDArray[np.uint8]:
        """For each of k offsets 509 bytes of keystream from there on: shape (k, 509)."""
        first, skip = np.divmod(offsets_bytes, _BLOCK_BYTES)
        counters = np.zeros((len(first), _PAYLOAD_BLOCKS, 2), ">u8")
        counters[:, :, 1] = first[:, np.newaxis] + _COUNTS
        blocks = np.frombuffer(self._blocks.update(counters.view(np.uint8).data), np.uint8)
        # Row n of `windows` is the 509 bytes from byte n on: so each payload is copied in one piece.
        windows = as_strided(
            blocks, (len(blocks) - PAYLOAD_BYTES + 1, PAYLOAD_BYTES), (1, 1), writeable=False
        )
        starts = np.arange(0, len(blocks), _PAYLOAD_BLOCKS * _BLOCK_BYTES)
        found: NDArray[np.uint8] = windows[starts + skip]
        return found


class EchoStream:
    """The cells that one circuit sends, in order."""

    __slots__ = ("_encrypt", "_header", "_reader", "sent_cells")

    def __init__(self, secret: bytes, header: bytes) -> None:
        self._reader = KeystreamReader(secret)
        self._header: Final[NDArray[np.uint8]] = np.frombuffer(header, np.uint8)
        self._encrypt = Cipher(algorithms.AES(secret), modes.CTR(bytes(_BLOCK_BYTES))).encryptor()
        self.sent_cells = 0
        """Cells made so far."""

    def fill(self, out: Cells) -> memoryview:
        """Overwrites `out`, at most CHUNK_CELLS contiguous cells, with the next ones; gives their bytes."""
        data = out.data.cast("B")
        self._encrypt.update_into(_ZEROS[: len(data)], data)
        out[:, :HEADER_BYTES] = self._header
        self.sent_cells += len(out)
        return data

    def payloads(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The payloads of the cells `indices` (from 0) once more: shape (k, 509)."""
        return self._reader.payloads(CELL_BYTES * indices + HEADER_BYTES)
