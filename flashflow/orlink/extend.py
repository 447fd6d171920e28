"""How circuits are made and extended: CREATE2, CREATED2, EXTEND2, EXTENDED2, link specifiers (tor-spec 5.1)."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from flashflow.orlink.cells import CellError

HANDSHAKE_NTOR: Final = 2
"""HTYPE of ntor."""


class SpecifierType(IntEnum):
    """Types of link specifiers (tor-spec 5.1.2)."""

    IPV4 = 0
    IPV6 = 1
    RSA_FINGERPRINT = 2
    ED25519 = 3


_LENGTHS: Final[dict[int, int]] = {
    SpecifierType.IPV4: 6,
    SpecifierType.IPV6: 18,
    SpecifierType.RSA_FINGERPRINT: 20,
    SpecifierType.ED25519: 32,
}


@dataclass(frozen=True, slots=True)
class LinkSpecifier:
    """One way to find, or one key to know, the next relay of a circuit."""

    type: int
    """LSTYPE, which need not be one that `SpecifierType` names."""
    data: bytes
    """LSPEC, at most 255 bytes."""

    def encode(self) -> bytes:
        """Type, length and data."""
        return bytes((self.type, len(self.data))) + self.data


@dataclass(frozen=True, slots=True)
class Extend2:
    """Payload of an EXTEND2 relay cell."""

    specifiers: tuple[LinkSpecifier, ...]
    """Addresses and identities of the next relay."""
    handshake_type: int
    """HTYPE, 2 for ntor."""
    handshake: bytes
    """HDATA: the onionskin."""

    def encode(self) -> bytes:
        """The relay cell's data."""
        specifiers = b"".join(specifier.encode() for specifier in self.specifiers)
        return (
            bytes((len(self.specifiers),)) + specifiers + encode_create2(self.handshake, self.handshake_type)
        )


def address_specifier(ip: str, port: int) -> LinkSpecifier:
    """The specifier of a TCP address. ValueError if `ip` is no IPv4 or IPv6 address or `port` no port."""
    packed = ipaddress.ip_address(ip).packed
    if not 0 <= port <= 65_535:
        raise ValueError(f"port {port}: 0 to 65535 expected")
    return LinkSpecifier(
        SpecifierType.IPV4 if len(packed) == 4 else SpecifierType.IPV6, packed + port.to_bytes(2, "big")
    )


def specifier_address(specifier: LinkSpecifier) -> tuple[str, int] | None:
    """The (ip, port) that a specifier names, or None if it names no address."""
    if specifier.type not in (SpecifierType.IPV4, SpecifierType.IPV6):
        return None
    return str(ipaddress.ip_address(specifier.data[:-2])), int.from_bytes(specifier.data[-2:], "big")


def relay_specifiers(
    rsa_fingerprint: bytes, ed25519: bytes | None, addresses: Sequence[tuple[str, int]]
) -> tuple[LinkSpecifier, ...]:
    """Specifiers of a relay in the order that tor-spec 5.1.2 asks for: IPv4, RSA, ed25519, IPv6."""
    found = [address_specifier(ip, port) for ip, port in addresses]
    found.append(LinkSpecifier(SpecifierType.RSA_FINGERPRINT, rsa_fingerprint))
    if ed25519 is not None:
        found.append(LinkSpecifier(SpecifierType.ED25519, ed25519))
    order = (SpecifierType.IPV4, SpecifierType.RSA_FINGERPRINT, SpecifierType.ED25519, SpecifierType.IPV6)
    return tuple(sorted(found, key=lambda specifier: order.index(SpecifierType(specifier.type))))


def parse_specifier(data: bytes, start: int) -> tuple[LinkSpecifier, int]:
    """Reads one specifier at byte `start`; gives it and the byte after it. CellError if malformed."""
    if len(data) < start + 2 or len(data) < start + 2 + data[start + 1]:
        raise CellError("link specifier: cut short")
    end = start + 2 + data[start + 1]
    specifier = LinkSpecifier(data[start], data[start + 2 : end])
    expected = _LENGTHS.get(specifier.type)
    if expected is not None and len(specifier.data) != expected:
        raise CellError(f"link specifier {specifier.type}: {len(specifier.data)} bytes, {expected} expected")
    return specifier, end


def parse_extend2(data: bytes) -> Extend2:
    """Reads the data of an EXTEND2 relay cell. CellError if malformed or if an identity is listed twice."""
    if not data:
        raise CellError("EXTEND2: empty")
    specifiers: list[LinkSpecifier] = []
    start = 1
    for _ in range(data[0]):
        specifier, start = parse_specifier(data, start)
        specifiers.append(specifier)
    types = [specifier.type for specifier in specifiers]
    if types.count(SpecifierType.RSA_FINGERPRINT) > 1 or types.count(SpecifierType.ED25519) > 1:
        raise CellError("EXTEND2: the same kind of identity is listed twice")
    handshake_type, handshake = parse_create2(data[start:])
    return Extend2(tuple(specifiers), handshake_type, handshake)


def encode_create2(handshake: bytes, handshake_type: int = HANDSHAKE_NTOR) -> bytes:
    """Payload of a CREATE2 cell."""
    return handshake_type.to_bytes(2, "big") + encode_created2(handshake)


def parse_create2(payload: bytes) -> tuple[int, bytes]:
    """Handshake type and data of a CREATE2 payload. CellError if it is cut short."""
    if len(payload) < 4:
        raise CellError(f"CREATE2: {len(payload)} bytes, at least 4 expected")
    return int.from_bytes(payload[:2], "big"), _sized(payload[2:], "CREATE2")


def encode_created2(handshake: bytes) -> bytes:
    """Payload of a CREATED2 cell, and the data of an EXTENDED2 relay cell."""
    return len(handshake).to_bytes(2, "big") + handshake


def parse_created2(payload: bytes) -> bytes:
    """Handshake data of a CREATED2 or EXTENDED2 payload. CellError if it is cut short."""
    return _sized(payload, "CREATED2")


def _sized(data: bytes, what: str) -> bytes:
    size = int.from_bytes(data[:2], "big")
    if len(data) < 2 or len(data) < 2 + size:
        raise CellError(f"{what}: handshake of {size} bytes announced, {max(0, len(data) - 2)} are there")
    return data[2 : 2 + size]
