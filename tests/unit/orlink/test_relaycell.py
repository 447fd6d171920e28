import pytest

from flashflow.orlink.cells import CellError
from flashflow.orlink.relaycell import (
    MAX_DATA_BYTES,
    RelayCell,
    RelayCommand,
    parse_relay_cell,
    sendme_data,
)

HELLO = RelayCell(RelayCommand.DATA, 7, b"hello")


def test_relay_cell_codec() -> None:
    full = RelayCell(RelayCommand.EXTEND2, 0xABCD, b"d" * MAX_DATA_BYTES)
    assert parse_relay_cell(full.encode()) == full
    assert HELLO.encode()[:16] == b"\x02\0\0\0\x07\0\0\0\0\0\x05hello"
    with pytest.raises(ValueError, match="499 bytes of data, at most 498 fit"):
        RelayCell(2, 1, bytes(499)).encode()
    with pytest.raises(CellError, match="499 bytes of data announced"):
        parse_relay_cell(bytes(9) + (499).to_bytes(2, "big") + bytes(498))


def test_sendme_quotes_the_digest() -> None:
    assert sendme_data(b"d" * 20) == b"\x01\x00\x14" + b"d" * 20
