"""The name in a ClientHello by which a measurer is let in ahead of strangers."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashflow.model.errors import PeerError
from flashflow.wire import knock as module
from flashflow.wire.knock import Doorkeeper, knock, record_bytes, server_name
from support.client_hello import client_hello

M1, M2, COORD = "11" * 32, "22" * 32, "cc" * 32
NONCE = bytes(range(16))


def test_the_name_is_found_in_what_openssl_sends() -> None:
    name = knock(M1, COORD, NONCE)
    hello = client_hello(name)
    assert record_bytes(hello) == len(hello)
    assert server_name(hello) == name
    assert server_name(client_hello(None)) is None


def test_each_measurer_is_known_by_its_own_name_and_once() -> None:
    door = Doorkeeper()
    name = knock(M2, COORD, NONCE)
    assert door.who(name, [M1, M2], COORD) == M2
    assert door.who(name, [M1, M2], COORD) is None  # it was copied from the wire
    assert door.who(knock(M2, COORD, bytes(16)), [M1, M2], COORD) == M2


@pytest.mark.parametrize(
    "name",
    [
        "",
        "example.org",
        knock(M1, COORD, NONCE).replace("a", "b"),
        knock(M1, M2, NONCE),
        knock("33" * 32, COORD, NONCE),
        knock(M1, COORD, NONCE)[:-1],
        knock(M1, COORD, NONCE)[1:],
        "zz" * 16 + knock(M1, COORD, NONCE)[32:],
        "é" * 300,
    ],
)
def test_other_names_are_nobodys(name: str) -> None:
    assert Doorkeeper().who(name, [M1, M2], COORD) is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 10)
    door = Doorkeeper()
    for number in range(50):
        assert door.who(knock(M1, COORD, number.to_bytes(16, "big")), [M1], COORD) == M1
    assert len(door._used) == len(door._order) == 10


def test_a_vector() -> None:
    nonce, mac = NONCE.hex(), "142fb9ff1593e94fcb8e042fc1065f69"
    assert knock(M1, COORD, NONCE) == f"{nonce}.{mac}.flashflow.invalid"


@pytest.mark.parametrize("size", range(200))
def test_cut_off_hellos_have_no_name(size: int) -> None:
    hello = client_hello(None)[:size]
    assert server_name(hello) is None


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes(data: bytes, handshake: bool) -> None:
    data = (b"\x16\x03\x01\x01\x00\x01" if handshake else b"") + data
    name = server_name(data)
    assert name is None or name.isascii()
    with contextlib.suppress(PeerError):
        needed = record_bytes(data)
        assert needed is None or 5 < needed <= 5 + module.MAX_RECORD_BYTES
