import numpy as np
import pytest

from flashflow.orlink.bulk import cell_header, empty_cells
from flashflow.orlink.relaycrypto import keystream
from flashflow.torclient.core.stream import CHUNK_CELLS, EchoStream, KeystreamReader

SECRET = bytes(range(16))
HEADER = cell_header(0x80000001, 41)


@pytest.mark.parametrize("offset", [0, 5, 7, 15, 16, 509 * 77, 514 * 3 + 5, 2**40 + 3, 2**60])
def test_any_piece_of_the_keystream(offset):
    offsets = np.array([3, offset])
    found = KeystreamReader(SECRET).payloads(offsets)
    assert [row.tobytes() for row in found] == [keystream(SECRET, at, 509) for at in (3, offset)]


def test_payloads_can_be_had_again_whatever_the_batches():
    stream = EchoStream(SECRET, HEADER)
    cells = [stream.fill(empty_cells(count, bytes(5))).tobytes() for count in (1, 3, CHUNK_CELLS, 2)]
    sent = b"".join(cells)
    assert stream.sent_cells == 1 + 3 + CHUNK_CELLS + 2
    for index in (0, 1, 3, 4, 100, stream.sent_cells - 1):
        cell = sent[514 * index : 514 * (index + 1)]
        assert cell[:5] == HEADER
        assert cell[5:] == stream.payloads(np.array([index])).tobytes()


def test_nothing_is_sent_twice_and_secrets_differ():
    buffer = empty_cells(CHUNK_CELLS, bytes(5))
    stream, other = EchoStream(SECRET, HEADER), EchoStream(bytes(16), HEADER)
    payloads = [row.tobytes() for _ in range(8) for row in as_rows(stream.fill(buffer))]
    payloads += [row.tobytes() for row in as_rows(other.fill(buffer))]
    assert len(set(payloads)) == 9 * CHUNK_CELLS


def as_rows(data):
    return np.frombuffer(data, np.uint8).reshape(-1, 514)[:, 5:]
