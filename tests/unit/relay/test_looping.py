"""The far end's circuits: mixed buffers sorted by circuit, and both layers on every relay cell."""

import random

import numpy as np
import pytest

from flashflow.orlink import bulk, extend, ntor
from flashflow.orlink.cells import (
    CELL_BYTES,
    PAYLOAD_BYTES,
    Cell,
    CellError,
    CellReader,
    Command,
    encode_cell,
)
from flashflow.orlink.relaycell import RelayCell, RelayCommand
from flashflow.orlink.relaycrypto import AesCtr, ClientHop
from flashflow.relay.buffers import Buffer
from flashflow.relay.echo import MAX_CELLS
from flashflow.relay.farend import HopKeys
from flashflow.relay.looping import LoopCircuits, by_circuit, relay_cells
from flashflow.relay.table import MAX_CIRCUITS
from support.orlink_keys import relay_keys

FIRST = 0x80000001


def encoded(*cells: Cell) -> bulk.Cells:
    return bulk.as_cells(b"".join(encode_cell(cell) for cell in cells))


def numbered(*circ_ids: int) -> bulk.Cells:
    """RELAY cells that carry their place in the buffer."""
    return encoded(
        *(Cell(circ_id, Command.RELAY, n.to_bytes(2, "big")) for n, circ_id in enumerate(circ_ids))
    )


class Bench:
    """Circuits of one link, and the client's keys of each."""

    def __init__(self, circuits: int = 0) -> None:
        self.keys = relay_keys()
        node_id = self.keys.identity.rsa_fingerprint
        self.out = Buffer(1 << 17)
        self.circuits = LoopCircuits(
            HopKeys(node_id, self.keys.ntor_private, lambda count: b"r" * count), self.out
        )
        self.material: dict[int, ntor.KeyMaterial] = {}
        self.streams: dict[int, tuple[AesCtr, AesCtr]] = {}
        for circ_id in range(FIRST, FIRST + circuits):
            self.create(circ_id)

    def gets(self, cells: bulk.Cells) -> list[Cell]:
        """Hands over a buffer, until all of it is taken, and gives the answers."""
        taken = 0
        while taken < len(cells):
            count = self.circuits.take(cells[taken:])
            assert count > 0
            taken += count
        assert taken == len(cells)
        reader = CellReader()
        reader.feed(self.out.filled())
        self.out.clear()
        return list(iter(reader.next, None))

    def create(self, circ_id: int) -> None:
        node_id = self.keys.identity.rsa_fingerprint
        secret = circ_id.to_bytes(32, "big")
        state, onionskin = ntor.client_begin(node_id, self.keys.ntor_public, secret)
        [created] = self.gets(encoded(Cell(circ_id, Command.CREATE2, extend.encode_create2(onionskin))))
        assert created.command == Command.CREATED2
        reply = extend.parse_created2(created.payload)
        keys = self.material[circ_id] = ntor.client_finish(state, reply)
        self.streams[circ_id] = AesCtr(keys.kf), AesCtr(keys.kb)

    def looped(self, circ_id: int, payload: bytes) -> bytes:
        """What has to come back for a payload: in the order of the cells on its circuit."""
        forward, backward = self.streams[circ_id]
        return backward.crypt(forward.crypt(payload))


@pytest.mark.parametrize(
    ("circ_ids", "expected"),
    [
        ([7], {7: [0]}),
        ([7, 7, 7], {7: [0, 1, 2]}),
        ([9, 7, 9, 7, 8], {9: [0, 2], 7: [1, 3], 8: [4]}),
        ([1, 2, 3], {1: [0], 2: [1], 3: [2]}),
        ([0xFFFFFFFF, 0x80000000, 1, 0xFFFFFFFF], {1: [2], 0x80000000: [1], 0xFFFFFFFF: [0, 3]}),
    ],
)
def test_cells_are_sorted_by_circuit_and_keep_their_order(
    circ_ids: list[int], expected: dict[int, list[int]]
) -> None:
    found = sort(numbered(*circ_ids))
    places = {circ_id: [int.from_bytes(row[5:7].tobytes(), "big") for row in run] for circ_id, run in found}
    assert places == expected
    assert len(found) == len(expected)
    for circ_id, run in found:
        assert {int.from_bytes(row[:4].tobytes(), "big") for row in run} == {circ_id}


def test_any_mixture_is_sorted() -> None:
    draw = random.Random(5)
    for _ in range(50):
        circ_ids = [FIRST + draw.randrange(9) for _ in range(draw.randrange(1, MAX_CELLS))]
        cells = numbered(*circ_ids)
        found = sort(cells)
        assert sorted(set(circ_ids)) == [circ_id for circ_id, _ in found]
        for circ_id, run in found:
            expected = cells[[n for n, other in enumerate(circ_ids) if other == circ_id]]
            assert np.array_equal(run, expected)


def sort(cells: bulk.Cells) -> list[tuple[int, bulk.Cells]]:
    out = np.zeros_like(cells)
    return [(circ_id, out[begin:end]) for circ_id, begin, end in by_circuit(cells, out)]


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([Command.RELAY], 1),
        ([Command.RELAY, Command.RELAY_EARLY, Command.RELAY], 3),
        ([Command.RELAY, Command.PADDING, Command.RELAY], 1),
        ([Command.DESTROY, Command.RELAY], 0),
        ([Command.RELAY_EARLY, Command.RELAY, Command.VPADDING], 2),
    ],
)
def test_relay_cells_are_counted_up_to_the_first_other_cell(commands: list[int], expected: int) -> None:
    cells = np.zeros((len(commands), CELL_BYTES), np.uint8)
    cells[:, 4] = commands
    assert relay_cells(cells) == expected


def test_mixed_circuits_come_back_through_their_own_keystreams() -> None:
    draw = random.Random(7)
    bench = Bench(circuits=5)
    for size in (MAX_CELLS, 1, 40, MAX_CELLS):
        sent = [
            Cell(
                FIRST + draw.randrange(5),
                draw.choice([Command.RELAY, Command.RELAY, Command.RELAY_EARLY]),
                draw.randbytes(PAYLOAD_BYTES),
            )
            for _ in range(size)
        ]
        back = bench.gets(encoded(*sent))
        assert len(back) == size
        assert {cell.command for cell in back} == {Command.RELAY}
        for circ_id in bench.streams:
            expected = [bench.looped(circ_id, cell.payload) for cell in sent if cell.circ_id == circ_id]
            assert [cell.payload for cell in back if cell.circ_id == circ_id] == expected


def test_a_cell_that_is_meant_for_the_far_end_goes_back_like_any_other() -> None:
    bench = Bench(circuits=1)
    sealed = ClientHop(bench.material[FIRST]).send(RelayCell(RelayCommand.DROP, 0, b""))
    [back] = bench.gets(encoded(Cell(FIRST, Command.RELAY, sealed)))
    assert back.payload == bench.looped(FIRST, sealed)


def test_padding_between_relay_cells_is_ignored() -> None:
    bench = Bench(circuits=2)
    payloads = [bytes((n,)) * PAYLOAD_BYTES for n in range(4)]
    sent = [
        Cell(FIRST, Command.RELAY, payloads[0]),
        Cell(0, Command.PADDING, b""),
        Cell(FIRST + 1, Command.RELAY, payloads[1]),
        Cell(FIRST, 77, b"unknown"),
        Cell(FIRST, Command.RELAY, payloads[2]),
    ]
    back = bench.gets(encoded(*sent))
    assert [(cell.circ_id, cell.payload) for cell in back] == [
        (FIRST, bench.looped(FIRST, payloads[0])),
        (FIRST + 1, bench.looped(FIRST + 1, payloads[1])),
        (FIRST, bench.looped(FIRST, payloads[2])),
    ]


def test_cells_of_no_circuit_are_dropped_and_cost_the_others_nothing() -> None:
    bench = Bench(circuits=2)
    payload = b"p" * PAYLOAD_BYTES
    ids = [FIRST, 99, FIRST + 1, 99, 0xFFFFFFFF, 98]
    back = bench.gets(encoded(*(Cell(circ_id, Command.RELAY, payload) for circ_id in ids)))
    assert [(cell.circ_id, cell.payload) for cell in back] == [
        (FIRST, bench.looped(FIRST, payload)),
        (FIRST + 1, bench.looped(FIRST + 1, payload)),
    ]


def test_destroy_closes_a_circuit_in_the_middle_of_a_buffer() -> None:
    bench = Bench(circuits=2)
    payload = b"p" * PAYLOAD_BYTES
    sent = [
        Cell(FIRST, Command.RELAY, payload),
        Cell(FIRST, Command.DESTROY, b"\x09"),
        Cell(FIRST, Command.RELAY, payload),
        Cell(FIRST + 1, Command.RELAY, payload),
    ]
    back = bench.gets(encoded(*sent))
    assert [cell.circ_id for cell in back] == [FIRST, FIRST + 1]
    assert bench.circuits.ids == (FIRST + 1,)
    bench.create(FIRST)
    assert set(bench.circuits.ids) == {FIRST, FIRST + 1}


@pytest.mark.parametrize("command", [Command.CREATE, Command.CREATE_FAST])
def test_old_handshakes_are_refused(command: int) -> None:
    bench = Bench()
    [answer] = bench.gets(encoded(Cell(FIRST, command, b"")))
    assert (answer.command, answer.payload[0], bench.circuits.ids) == (Command.DESTROY, 1, ())


def test_a_handshake_for_another_identity_is_refused() -> None:
    bench = Bench()
    _, onionskin = ntor.client_begin(b"x" * 20, bench.keys.ntor_public, b"s" * 32)
    [answer] = bench.gets(encoded(Cell(FIRST, Command.CREATE2, extend.encode_create2(onionskin))))
    assert (answer.command, bench.circuits.ids) == (Command.DESTROY, ())


def test_a_circuit_that_exists_already_closes_the_link() -> None:
    bench = Bench(circuits=1)
    with pytest.raises(CellError, match="exists"):
        bench.gets(encoded(Cell(FIRST, Command.CREATE2, b"")))


def test_circuits_are_bounded() -> None:
    bench = Bench(circuits=MAX_CIRCUITS)
    [answer] = bench.gets(encoded(Cell(FIRST + MAX_CIRCUITS, Command.CREATE2, b"")))
    assert (answer.command, answer.payload[0]) == (Command.DESTROY, 5)
