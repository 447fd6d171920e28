"""What the far end does with cells: circuits are made and destroyed, every relay cell goes back whence it came.

A relay under measurement sends all circuits to one identity over one connection, its cells mixed, often one by one. So
a buffer of cells is sorted by circuit first, and then handled in one run for each circuit: a few calls for each, and
no Python object for a cell.
"""

from typing import Final

import numpy as np

from flashflow.orlink.bulk import Cells, as_cells, frame_cells, gather_payloads, payloads
from flashflow.orlink.cells import CELL_BYTES, PAYLOAD_BYTES, Command
from flashflow.orlink.relaycrypto import RelayHop
from flashflow.relay.buffers import Buffer
from flashflow.relay.echo import MAX_CELLS
from flashflow.relay.table import DESTROY_PROTOCOL, CircuitTable, OnionKeys

_COMMAND_AT: Final = 4


def relay_cells(cells: Cells) -> int:
    """How many cells at the start of `cells` are RELAY or RELAY_EARLY cells, on whatever circuits."""
    commands = cells[:, _COMMAND_AT]
    wanted = (commands == Command.RELAY) | (commands == Command.RELAY_EARLY)
    return len(cells) if wanted.all() else int(wanted.argmin())


def by_circuit(cells: Cells, out: Cells) -> list[tuple[int, int, int]]:
    """Copies cells into `out`, sorted by circuit: (circuit ID, its first cell, the one after its last).

    Within a circuit the order stays.
    """
    circ_ids = np.ndarray((len(cells),), ">u4", cells.data, strides=(CELL_BYTES,))
    if (circ_ids == circ_ids[0]).all():
        out[:] = cells
        return [(int(circ_ids[0]), 0, len(cells))]
    order = circ_ids.argsort(kind="stable")
    np.take(cells, order, axis=0, out=out, mode="clip")  # "raise" would copy once more
    sorted_ids = circ_ids[order]
    starts = [0, *(np.flatnonzero(sorted_ids[1:] != sorted_ids[:-1]) + 1).tolist()]
    return list(zip(sorted_ids[starts].tolist(), starts, [*starts[1:], len(cells)], strict=True))


class LoopCircuits:
    """All circuits of one link to the far end."""

    def __init__(self, keys: OnionKeys, out: Buffer) -> None:
        self._out = out
        self._table = CircuitTable(keys, out, RelayHop)
        self._scratch = np.empty(MAX_CELLS * PAYLOAD_BYTES, np.uint8)

    @property
    def ids(self) -> tuple[int, ...]:
        """Circuit IDs on this link."""
        return self._table.ids

    def take(self, cells: Cells) -> int:
        """Handles cells at the start of `cells`, at least one: how many. CellError if the link has to be closed."""
        count = relay_cells(cells)
        if count == 0:
            self._take_one(cells[:1])
            return 1
        self._loop(cells[:count])
        return count

    def _loop(self, cells: Cells) -> None:
        back = as_cells(self._out.room(len(cells) * CELL_BYTES))
        runs = by_circuit(cells, back)
        stream = gather_payloads(back, self._scratch)
        unknown = [run for run in runs if not self._turn(run, stream.data)]
        frame_cells(stream, None, back)
        back[:, _COMMAND_AT] = Command.RELAY  # never RELAY_EARLY towards the client (tor-spec 5.6)
        for _, begin, end in reversed(unknown):  # cells may still come on a circuit that was just destroyed
            count = len(back) - end
            back[begin : begin + count] = back[end:]
            back = back[: begin + count]
        self._out.added(back.size)

    def _turn(self, run: tuple[int, int, int], stream: memoryview) -> bool:
        """Takes the forward layer off the payloads of one circuit and puts the backward one on: whether it exists."""
        circ_id, begin, end = run
        hop = self._table.get(circ_id)
        if hop is None:
            return False
        payload = stream[begin * PAYLOAD_BYTES : end * PAYLOAD_BYTES]
        hop.forward.cipher.crypt_into(payload, payload)
        hop.backward.cipher.crypt_into(payload, payload)
        return True

    def _take_one(self, cells: Cells) -> None:
        circ_id, command = int.from_bytes(cells[0, :_COMMAND_AT].tobytes(), "big"), int(cells[0, _COMMAND_AT])
        if command == Command.CREATE2:
            self._table.create(circ_id, payloads(cells)[0].tobytes())
        elif command in (Command.CREATE, Command.CREATE_FAST):
            self._table.destroy(circ_id, DESTROY_PROTOCOL)
        elif command == Command.DESTROY:
            self._table.forget(circ_id)
        # Everything else is link padding, or nothing that a far end knows: ignored, as tor ignores it.
