import pytest

from flashflow.orlink.cells import CellError
from flashflow.orlink.netinfo import NetInfo, parse_netinfo


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_round_trip(ip: str) -> None:
    netinfo = NetInfo(1_800_000_000, ip, ("::1", "127.0.0.1"))
    assert parse_netinfo(netinfo.encode().ljust(509, b"\0")) == netinfo


def test_addresses_of_unknown_form_are_left_out() -> None:
    payload = (
        bytes(4) + b"\x04\x03abc" + b"\x03" + b"\x06\x04abcd" + b"\x09\x01x" + b"\x04\x04\x7f\x00\x00\x01"
    )
    assert parse_netinfo(payload) == NetInfo(0, None, ("127.0.0.1",))


@pytest.mark.parametrize(
    "payload", [b"", bytes(5), bytes(6), bytes(4) + b"\x04\x04abcd", bytes(6) + b"\x01\x04"]
)
def test_cut_short(payload: bytes) -> None:
    with pytest.raises(CellError, match="NETINFO cell: cut short"):
        parse_netinfo(payload)
