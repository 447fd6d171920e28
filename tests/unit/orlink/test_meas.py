import pytest

from flashflow.orlink.cells import PAYLOAD_BYTES, CellError
from flashflow.orlink.meas import (
    MeasBg,
    MeasErr,
    MeasErrCode,
    MeasJoin,
    MeasParams,
    MeasParamsOk,
    Measurement,
    MeasurerSpec,
    parse_measurement,
)

V4 = MeasurerSpec(b"t" * 16, 80, ("127.0.0.1", 0))
V6 = MeasurerSpec(b"u" * 16, 65_535, ("::1", 9001))


@pytest.mark.parametrize(
    "message",
    [
        MeasParams(1, 0xFFFFFFFF, 600, (V4, V6)),
        MeasParams(1, 0, 1, (V6,) * 10),
        MeasParamsOk(),
        MeasBg(600, 2**64 - 1, 0),
        MeasErr(MeasErrCode.TOO_MANY),
        MeasJoin(5, b"t" * 16),
    ],
)
def test_round_trip_with_cell_padding(message: Measurement) -> None:
    assert len(message.encode()) <= PAYLOAD_BYTES
    assert parse_measurement(message.encode().ljust(PAYLOAD_BYTES, b"\0")) == message


def test_layout() -> None:
    assert MeasParams(1, 2, 3, (V4,)).encode() == (
        b"\x00\x01\x00\x00\x00\x02\x00\x03\x01"
        + b"t" * 16
        + b"\x00\x50"
        + b"\x00\x06\x7f\x00\x00\x01\x00\x00"
    )
    assert MeasBg(1, 2, 3).encode() == b"\x02\x00\x01" + bytes(7) + b"\x02" + bytes(7) + b"\x03"
    assert MeasErr(MeasErrCode.OTHER).encode() == b"\x03\xff"
    assert MeasJoin(7, b"j" * 16).encode() == b"\x04\x00\x00\x00\x07" + b"j" * 16


@pytest.mark.parametrize(("duration_s", "measurers"), [(0, (V4,)), (601, (V4,)), (30, ()), (30, (V4,) * 11)])
def test_the_encoder_refuses_what_the_other_side_would(
    duration_s: int, measurers: tuple[MeasurerSpec, ...]
) -> None:
    with pytest.raises(ValueError, match="1 to 600 s and 1 to 10 measurers expected"):
        MeasParams(1, 1, duration_s, measurers).encode()


def test_the_encoder_refuses_a_token_of_another_size() -> None:
    with pytest.raises(ValueError, match="token of 15 bytes"):
        MeasParams(1, 1, 30, (MeasurerSpec(b"t" * 15, 1, ("::1", 1)),)).encode()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "empty"),
        (b"\x05", "measure command 5, 0 to 4 expected"),
        (b"\x00\x01\0\0\0\x01\0\0\x01", "duration 0 s"),
        (b"\x00\x01\0\0\0\x01\x02\x59\x01", "duration 601 s"),
        (b"\x00\x01\0\0\0\x01\0\x1e\x00", "0 measurers"),
        (b"\x00\x01\0\0\0\x01\0\x1e\x0b", "11 measurers"),
        (b"\x00\x01\0\0\0\x01\0\x1e\x01" + b"t" * 17, "at least 27 expected"),
        (b"\x00\x01\0\0\0\x01\0\x1e\x01" + b"t" * 16 + b"\0\1" + b"\x00\x06abc", "cut short"),
        (b"\x00\x01\0\0\0\x01\0\x1e\x01" + b"t" * 16 + b"\0\1" + b"\x09\x02ab", "an address expected"),
        (b"\x00\x01\0\0\0\x01\0\x1e\x01" + b"t" * 16 + b"\0\0" + b"\x00\x06" + bytes(6), "0 sockets"),
        (b"\x02\0\1" + bytes(15), "at least 19 expected"),
        (b"\x03", "at least 2 expected"),
        (b"\x04" + bytes(19), "at least 21 expected"),
    ],
)
def test_malformed(payload: bytes, reason: str) -> None:
    with pytest.raises(CellError, match=reason):
        parse_measurement(payload)


def test_an_unknown_error_code_reads_as_other() -> None:
    assert parse_measurement(b"\x03\x63") == MeasErr(MeasErrCode.OTHER)


def test_tokens_stay_out_of_representations() -> None:
    assert "ttt" not in repr(MeasParams(1, 2, 3, (V4,))) + repr(MeasJoin(1, b"t" * 16))
