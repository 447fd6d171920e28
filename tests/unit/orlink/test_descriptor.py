"""stem, an independent reader, checks our descriptors with all their signatures."""

import base64
from datetime import UTC

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from stem.descriptor.certificate import Ed25519Certificate
from stem.descriptor.server_descriptor import RelayDescriptor

from flashflow.orlink.certs import verify_rsa_bare
from flashflow.orlink.descriptor import build_server_descriptor
from support.orlink_keys import relay_keys

PUBLISHED_UTC_S = 4_000_000_000.0
"""In 2096: stem compares the certificates inside with the real clock."""


def build(number: int = 0, ipv6: tuple[str, int] | None = ("::1", 9002), family: tuple[str, ...] = ()) -> str:
    return build_server_descriptor(
        relay_keys(number),
        nickname="relay0",
        address="127.0.0.1",
        or_port=9001,
        bandwidth_avg=1_000_000,
        bandwidth_burst=2_000_000,
        bandwidth_observed=500_000,
        published_utc_s=PUBLISHED_UTC_S,
        ipv6=ipv6,
        family=family,
    )


def parse(text: str) -> RelayDescriptor:
    return RelayDescriptor(text.encode(), validate=True)


def test_stem_accepts_it() -> None:
    family = ("$" + "A" * 40, "friend")
    found = parse(build(family=family))
    identity = relay_keys().identity
    assert identity.ed25519 is not None
    assert bytes.fromhex(found.fingerprint) == identity.rsa_fingerprint
    assert (found.nickname, found.address, found.or_port) == ("relay0", "127.0.0.1", 9001)
    assert found.or_addresses == [("::1", 9002, True)]
    assert (found.average_bandwidth, found.burst_bandwidth, found.observed_bandwidth) == (
        1_000_000,
        2_000_000,
        500_000,
    )
    assert found.published.replace(tzinfo=UTC).timestamp() == PUBLISHED_UTC_S
    assert found.family == set(family)
    assert not found.exit_policy.is_exiting_allowed()


def test_ipv6_and_family_are_optional() -> None:
    found = parse(build(ipv6=None))
    assert found.or_addresses == []
    assert found.family == set()


@pytest.mark.parametrize("old", ["1000000", "published", "9002", "Link=4-5"])
def test_stem_refuses_it_once_changed(old: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(build().replace(old, old[:-1] + ("x" if old[-1].isalpha() else "7"), 1))


def test_the_tap_key_signs_both_identities() -> None:
    keys, found = relay_keys(), parse(build())
    body = "".join(found.onion_key_crosscert.splitlines()[1:-1])
    expected = keys.identity.rsa_fingerprint + (keys.identity.ed25519 or b"")
    assert verify_rsa_bare(keys.tap_onion.public_key(), base64.b64decode(body), expected)


@pytest.mark.parametrize("number", range(4))
def test_the_ntor_key_certifies_the_identity(number: int) -> None:
    """The signature holds under the key that a reader computes from the X25519 key and the sign bit (appendix C)."""
    keys, found = relay_keys(number), parse(build(number))
    prime = 2**255 - 19
    u = int.from_bytes(keys.ntor_public, "little")
    y = (u - 1) * pow(u + 1, -1, prime) % prime
    public = (y | int(found.ntor_onion_key_crosscert_sign) << 255).to_bytes(32, "little")
    cert = Ed25519Certificate.from_base64(found.ntor_onion_key_crosscert)
    assert cert.key == keys.identity.ed25519
    Ed25519PublicKey.from_public_bytes(public).verify(cert.signature, cert.pack()[:-64])
