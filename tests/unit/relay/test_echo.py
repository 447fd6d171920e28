import numpy as np
import pytest

from flashflow.orlink import bulk
from flashflow.orlink.cells import CELL_BYTES, PAYLOAD_BYTES, Command
from flashflow.orlink.ntor import KeyMaterial
from flashflow.orlink.relaycell import RelayCell, RelayCommand
from flashflow.orlink.relaycrypto import ClientHop, RelayHop, keystream
from flashflow.relay.buffers import Buffer
from flashflow.relay.echo import MAX_CELLS, Echo, own_rows

CIRC = 0x80000005
KEYS = KeyMaterial(b"f" * 20, b"b" * 20, b"F" * 16, b"B" * 16, b"h" * 20)


def run(payload: bytes, command: int) -> bulk.Cells:
    cells = bulk.empty_cells(len(payload) // PAYLOAD_BYTES, bulk.cell_header(CIRC, command))
    return bulk.frame_cells(memoryview(payload), None, cells)


def noise(count: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).bytes(count * PAYLOAD_BYTES)


@pytest.mark.parametrize("sizes", [[1], [MAX_CELLS], [3, 1, 7, 50]])
def test_echo_is_the_decryption_with_the_forward_key(sizes) -> None:
    hop, echo, out = RelayHop(KEYS), Echo(), Buffer(1 << 17)
    sent = b"".join(noise(size, size) for size in sizes)
    at = 0
    for size in sizes:
        echo.echo(hop, run(sent[at : at + size * PAYLOAD_BYTES], Command.MEAS_ECHO), out)
        at += size * PAYLOAD_BYTES
    got = bulk.as_cells(out.filled())
    assert bulk.headers_match(got, bulk.cell_header(CIRC, Command.MEAS_ECHO)) == sum(sizes)
    expected = np.frombuffer(sent, np.uint8) ^ np.frombuffer(keystream(KEYS.kf, 0, len(sent)), np.uint8)
    assert bulk.payloads(got).tobytes() == expected.tobytes()


def test_relay_cells_for_nobody_get_the_backward_layer() -> None:
    hop, echo, out = RelayHop(KEYS), Echo(), Buffer(1 << 16)
    sent = noise(20)
    rows = echo.peel(hop, run(sent, Command.RELAY_EARLY))
    echo.pass_back(hop, rows, CIRC, out)
    got = bulk.as_cells(out.filled())
    assert bulk.headers_match(got, bulk.cell_header(CIRC, Command.RELAY)) == 20
    both = np.frombuffer(keystream(KEYS.kf, 0, len(sent)), np.uint8) ^ np.frombuffer(
        keystream(KEYS.kb, 0, len(sent)), np.uint8
    )
    assert bulk.payloads(got).tobytes() == (np.frombuffer(sent, np.uint8) ^ both).tobytes()


def test_own_cells_are_found_among_others_and_zeros_alone_do_not_make_one() -> None:
    client, hop = ClientHop(KEYS), RelayHop(KEYS)
    other = bytearray(noise(1))
    other[1:3] = b"\0\0"  # looks recognised, but its digest is wrong
    payloads = [
        client.send(RelayCell(RelayCommand.DROP, 0, b"one")),
        client.forward.cipher.crypt(bytes(other)),
        client.send(RelayCell(RelayCommand.DROP, 0, b"two")),
        client.forward.cipher.crypt(noise(1, 2)),
    ]
    rows = Echo().peel(hop, run(b"".join(payloads), Command.RELAY))
    assert own_rows(hop, rows) == [0, 2]


def test_nothing_to_pass_back() -> None:
    out = Buffer(CELL_BYTES)
    Echo().pass_back(RelayHop(KEYS), np.empty((0, PAYLOAD_BYTES), np.uint8), CIRC, out)
    assert len(out) == 0
