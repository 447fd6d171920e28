import pytest

from flashflow.orlink.cells import Cell, CellError, CellReader, Command, MeasCommands, encode_cell

CELLS = [
    Cell(0, Command.VPADDING, b""),
    Cell(0x80000001, Command.RELAY, bytes(range(256)) + bytes(253)),
    Cell(0, Command.CERTS, b"\x00" * 700),
    Cell(7, 77, b"x" * 509),
    Cell(0, Command.VERSIONS, b"\x00\x04\x00\x05"),
]
STREAM = b"".join(encode_cell(cell) for cell in CELLS)


def read_all(reader: CellReader, *parts: bytes) -> list[Cell]:
    cells = []
    for part in parts:
        reader.feed(part)
        while (cell := reader.next()) is not None:
            cells.append(cell)
    return cells


def test_whole() -> None:
    assert read_all(CellReader(), STREAM) == CELLS


def test_byte_by_byte() -> None:
    assert read_all(CellReader(), *(STREAM[at : at + 1] for at in range(len(STREAM)))) == CELLS


def test_trailing_half_cell_is_kept_and_given_away() -> None:
    reader = CellReader()
    assert read_all(reader, STREAM + STREAM[:5]) == CELLS
    assert reader.rest() == STREAM[:5]
    assert reader.rest() == b""
    assert read_all(reader, STREAM) == CELLS


def test_fixed_cell_is_514_bytes_padded_with_zeros() -> None:
    assert encode_cell(Cell(1, Command.NETINFO, b"ab")) == b"\0\0\0\1\x08ab" + bytes(507)
    assert len(encode_cell(Cell(1, Command.NETINFO, b""), circ_id_bytes=2)) == 512


def test_variable_cell_has_a_length() -> None:
    assert encode_cell(Cell(0, Command.CERTS, b"abc")) == b"\0\0\0\0\x81\x00\x03abc"


def test_circuit_id_width_switches_for_bytes_already_fed() -> None:
    reader = CellReader(circ_id_bytes=2)
    versions = Cell(0, Command.VERSIONS, b"\x00\x05")
    reader.feed(encode_cell(versions, circ_id_bytes=2) + encode_cell(CELLS[1]))
    assert reader.next() == versions
    reader.circ_id_bytes = 4
    assert reader.next() == CELLS[1]


def test_variable_cell_above_the_cap_is_refused_before_it_is_buffered() -> None:
    reader = CellReader(max_variable_bytes=1000)
    reader.feed(encode_cell(Cell(0, Command.CERTS, bytes(1001)))[:7])
    with pytest.raises(CellError, match="CERTS cell: 1001 bytes announced, at most 1000 expected"):
        reader.next()


def test_too_long_a_payload_is_our_bug() -> None:
    with pytest.raises(ValueError, match="RELAY cell: payload of 510 bytes, at most 509 fit"):
        encode_cell(Cell(1, Command.RELAY, bytes(510)))


@pytest.mark.parametrize(("measurement", "echo"), [(12, 41), (40, 128), (7, 41), (40, 40), (40, 3)])
def test_measurement_commands_may_not_be_tors(measurement: int, echo: int) -> None:
    with pytest.raises(ValueError, match=r"13 to 127 expected|need two numbers"):
        MeasCommands(measurement, echo)


def test_measurement_commands_are_40_and_41_unless_set() -> None:
    assert MeasCommands() == MeasCommands(40, 41)
    assert MeasCommands(13, 127).echo == 127
