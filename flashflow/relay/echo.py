"""What becomes of whole runs of cells of one circuit: a few calls each, whatever the number of cells."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from flashflow.orlink import bulk
from flashflow.orlink.bulk import Cells
from flashflow.orlink.cells import CELL_BYTES, PAYLOAD_BYTES, Command
from flashflow.orlink.relaycrypto import RelayHop
from flashflow.relay.buffers import RX_BYTES, Buffer

MAX_CELLS: Final = RX_BYTES // CELL_BYTES
"""Longest run that a link hands over."""

Rows = NDArray[np.uint8]
"""Payloads one after the other: shape (k, 509), contiguous."""


class Echo:
    """Answers runs of MEAS_ECHO and RELAY cells. Runs are at most MAX_CELLS long, and `out` has room for them."""

    def __init__(self) -> None:
        self._scratch = np.empty(MAX_CELLS * PAYLOAD_BYTES, np.uint8)

    def echo(self, hop: RelayHop, cells: Cells, out: Buffer) -> None:
        """Decrypts the payloads with the circuit's forward key and sends the cells back (proposal 316, 3.1.4)."""
        send_rows(self.peel(hop, cells), cells[0, : bulk.HEADER_BYTES].tobytes(), out)

    def peel(self, hop: RelayHop, cells: Cells) -> Rows:
        """Takes this hop's forward layer off. The rows are valid until the next call."""
        stream = bulk.gather_payloads(cells, self._scratch)
        hop.forward.cipher.crypt_into(stream, stream)
        return stream.reshape(len(cells), PAYLOAD_BYTES)

    def pass_back(self, hop: RelayHop, rows: Rows, circ_id: int, out: Buffer) -> None:
        """Adds this hop's backward layer, as to cells that come from further along the circuit, and sends them."""
        if len(rows):
            hop.backward.cipher.crypt_into(rows, rows)
            send_rows(rows, bulk.cell_header(circ_id, Command.RELAY), out)


def own_rows(hop: RelayHop, rows: Rows) -> list[int]:
    """Indices of the decrypted payloads that are meant for this hop (tor-spec 6.1)."""
    candidates = np.flatnonzero((rows[:, 1] | rows[:, 2]) == 0)
    return [int(index) for index in candidates if hop.forward.recognizes(rows[index].tobytes())]


def send_rows(rows: Rows, header: bytes, out: Buffer) -> None:
    """Frames the payloads into cells at the end of `out`."""
    size = len(rows) * CELL_BYTES
    bulk.frame_cells(rows.reshape(-1), header, bulk.as_cells(out.room(size)))
    out.added(size)
