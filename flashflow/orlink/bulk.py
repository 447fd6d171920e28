"""Whole buffers of cells of one circuit and one command, as numpy arrays: no Python object per cell.

A buffer is an array of shape (k, 514) and type uint8: k cells with circuit IDs of 4 bytes. Its payloads are a
contiguous stream of k * 509 bytes, which `relaycrypto.AesCtr` encrypts or decrypts in one call.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from flashflow.orlink.cells import CELL_BYTES, PAYLOAD_BYTES

HEADER_BYTES: Final = CELL_BYTES - PAYLOAD_BYTES
"""Circuit ID (4) and command (1)."""

Cells = NDArray[np.uint8]
"""An array of shape (k, 514)."""


def cell_header(circ_id: int, command: int) -> bytes:
    """The 5 bytes that start each cell of a circuit and command."""
    return circ_id.to_bytes(4, "big") + bytes((command,))


def empty_cells(count: int, header: bytes) -> Cells:
    """A buffer of `count` cells that carry `header`; `frame_cells(…, None, …)` then only writes payloads."""
    cells = np.empty((count, CELL_BYTES), np.uint8)
    cells[:, :HEADER_BYTES] = np.frombuffer(header, np.uint8)
    return cells


def as_cells(data: bytes | bytearray | memoryview | NDArray[np.uint8]) -> Cells:
    """The whole cells at the start of `data`, as a view of shape (len // 514, 514): what is left over is half a cell."""
    flat = np.frombuffer(data, np.uint8)
    count = len(flat) // CELL_BYTES
    return flat[: count * CELL_BYTES].reshape(count, CELL_BYTES)


def frame_cells(payload: NDArray[np.uint8] | memoryview, header: bytes | None, out: Cells) -> Cells:
    """Cuts `payload` (k * 509 bytes, contiguous) into the first k cells of `out` and gives these cells.

    `header` None leaves the headers that `out` already has: see `empty_cells`.
    """
    flat = np.frombuffer(payload, np.uint8)
    count = len(flat) // PAYLOAD_BYTES
    cells = out[:count]
    cells[:, HEADER_BYTES:] = flat.reshape(count, PAYLOAD_BYTES)
    if header is not None:
        cells[:, :HEADER_BYTES] = np.frombuffer(header, np.uint8)
    return cells


def headers_match(cells: Cells, header: bytes) -> int:
    """How many cells at the start of `cells` have this header: all of them, or the index of the first other one."""
    count = len(cells)
    if count == 0:
        return 0
    # One strided comparison for the circuit ID and one for the command: 2 numpy calls whatever the number of cells.
    circ_ids = np.ndarray((count,), "<u4", cells.data, strides=(CELL_BYTES,))
    same = circ_ids == int.from_bytes(header[:4], "little")
    same &= cells[:, 4] == header[4]
    return count if same.all() else int(same.argmin())


def payloads(cells: Cells) -> NDArray[np.uint8]:
    """The payloads as a view of shape (k, 509), not contiguous."""
    return cells[:, HEADER_BYTES:]


def gather_payloads(cells: Cells, out: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Copies the payloads one after the other into `out` (at least k * 509 bytes) and gives the k * 509 bytes."""
    count = len(cells)
    stream = out[: count * PAYLOAD_BYTES]
    stream.reshape(count, PAYLOAD_BYTES)[:] = cells[:, HEADER_BYTES:]
    return stream
