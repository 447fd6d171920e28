import pytest

from flashflow.orlink.cells import CellError
from flashflow.orlink.extend import (
    Extend2,
    LinkSpecifier,
    SpecifierType,
    address_specifier,
    encode_create2,
    encode_created2,
    parse_create2,
    parse_created2,
    parse_extend2,
    relay_specifiers,
    specifier_address,
)


@pytest.mark.parametrize(("ip", "kind"), [("127.0.0.1", SpecifierType.IPV4), ("::1", SpecifierType.IPV6)])
def test_addresses(ip: str, kind: SpecifierType) -> None:
    specifier = address_specifier(ip, 9001)
    assert specifier.type == kind
    assert specifier_address(specifier) == (ip, 9001)
    assert specifier_address(LinkSpecifier(SpecifierType.RSA_FINGERPRINT, b"f" * 20)) is None


@pytest.mark.parametrize(("ip", "port"), [("localhost", 1), ("127.0.0.1", 65_536), ("::1", -1)])
def test_what_is_no_address_is_our_bug(ip: str, port: int) -> None:
    with pytest.raises(ValueError, match=r"localhost|0 to 65535 expected"):
        address_specifier(ip, port)


def test_specifiers_come_in_the_order_of_the_spec() -> None:
    addresses = [("::1", 2), ("127.0.0.1", 1)]
    assert [s.type for s in relay_specifiers(b"f" * 20, b"e" * 32, addresses)] == [0, 2, 3, 1]
    assert [s.type for s in relay_specifiers(b"f" * 20, None, addresses)] == [0, 2, 1]


def test_extend2_round_trip_with_an_unknown_specifier() -> None:
    specifiers = (*relay_specifiers(b"f" * 20, b"e" * 32, [("127.0.0.1", 1)]), LinkSpecifier(99, b"new"))
    request = Extend2(specifiers, 2, b"h" * 84)
    assert parse_extend2(request.encode() + bytes(20)) == request


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\x01\x00", "cut short"),
        (b"\x01\x00\x06abc", "cut short"),
        (b"\x01\x00\x05abcde", "link specifier 0: 5 bytes, 6 expected"),
        (b"\x02" + 2 * (b"\x02\x14" + bytes(20)) + bytes(4), "listed twice"),
        (b"\x02" + 2 * (b"\x03\x20" + bytes(32)) + bytes(4), "listed twice"),
        (b"\x00\x00\x02", "CREATE2: 2 bytes, at least 4 expected"),
        (b"\x00\x00\x02\x00\x05abcd", "5 bytes announced, 4 are there"),
    ],
)
def test_malformed_extend2(data: bytes, reason: str) -> None:
    with pytest.raises(CellError, match=reason):
        parse_extend2(data)


def test_handshake_payloads() -> None:
    assert parse_create2(encode_create2(b"skin") + bytes(9)) == (2, b"skin")
    assert parse_created2(encode_created2(b"reply") + bytes(9)) == b"reply"
    for short in (b"", b"\0", b"\0\2x"):
        with pytest.raises(CellError, match="CREATED2"):
            parse_created2(short)
