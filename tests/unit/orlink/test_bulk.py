import numpy as np
import pytest

from flashflow.orlink import bulk
from flashflow.orlink.cells import Cell, CellReader, encode_cell
from flashflow.orlink.relaycrypto import AesCtr, keystream

CIRC_ID, COMMAND = 0x80000102, 41
HEADER = bulk.cell_header(CIRC_ID, COMMAND)


def payload(count: int) -> np.ndarray:
    return np.frombuffer(keystream(b"k" * 16, 0, count * 509), np.uint8)


@pytest.mark.parametrize("count", [1, 2, 255])
def test_framing_gives_the_bytes_of_the_cell_codec(count: int) -> None:
    stream = payload(count)
    out = np.zeros((300, 514), np.uint8)
    cells = bulk.frame_cells(stream, HEADER, out)
    parts = [Cell(CIRC_ID, COMMAND, stream[at * 509 : at * 509 + 509].tobytes()) for at in range(count)]
    assert cells.tobytes() == b"".join(encode_cell(cell) for cell in parts)
    assert not out[count:].any()


def test_headers_that_are_there_already_are_left() -> None:
    out = bulk.empty_cells(4, HEADER)
    cells = bulk.frame_cells(memoryview(payload(3).tobytes()), None, out)
    reader = CellReader()
    reader.feed(cells.tobytes())
    assert reader.next() == Cell(CIRC_ID, COMMAND, payload(3)[:509].tobytes())


def test_gathering_undoes_framing() -> None:
    cells = bulk.frame_cells(payload(9), HEADER, np.empty((9, 514), np.uint8))
    assert (bulk.gather_payloads(cells, np.empty(10 * 509, np.uint8)) == payload(9)).all()
    assert bulk.payloads(cells).shape == (9, 509)
    assert (bulk.payloads(cells)[8] == payload(9)[8 * 509 :]).all()


def test_only_whole_cells_are_viewed() -> None:
    assert bulk.as_cells(bytearray(514 * 3 + 513)).shape == (3, 514)
    assert bulk.as_cells(b"x" * 513).shape == (0, 514)


@pytest.mark.parametrize("column", range(5))
def test_the_first_other_header_is_found(column: int) -> None:
    cells = bulk.empty_cells(50, HEADER)
    assert bulk.headers_match(cells, HEADER) == 50
    cells[17, column] ^= 0x80
    cells[30, column] ^= 0x01
    assert bulk.headers_match(cells, HEADER) == 17
    assert bulk.headers_match(cells[17:], HEADER) == 0
    assert bulk.headers_match(cells[18:], HEADER) == 12
    assert bulk.headers_match(cells[:0], HEADER) == 0


def test_decryption_of_a_buffer_equals_decryption_cell_by_cell() -> None:
    sent = payload(20)
    into = np.empty_like(sent)
    AesCtr(b"r" * 16, 2 * 509).crypt_into(sent, into)
    for index in (0, 7, 19):
        part = slice(index * 509, index * 509 + 509)
        expected = sent[part] ^ np.frombuffer(keystream(b"r" * 16, 509 * (2 + index), 509), np.uint8)
        assert (into[part] == expected).all()
