"""Every flaw that a CERTS cell can have is found, and named."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from flashflow.orlink import certs
from flashflow.orlink.certs import CertError, CertType, KeyType
from flashflow.orlink.certs_cell import (
    encode_certs,
    initiator_certs,
    parse_certs,
    responder_certs,
    verify_initiator,
    verify_responder,
)
from support.orlink_keys import DAY_S, NOW_UTC_S, link_certificate, relay_keys

END_UTC_S = NOW_UTC_S + DAY_S
TLS_DER = link_certificate().certificate_der


def good(number: int = 0) -> dict[CertType, bytes]:
    payload = responder_certs(relay_keys(number), TLS_DER, NOW_UTC_S)
    return {CertType(kind): cert for kind, cert in parse_certs(payload).items()}


def verify(found: dict[CertType, bytes]) -> None:
    verify_responder(encode_certs(found), TLS_DER, NOW_UTC_S)


def flip(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def ed25519_public() -> bytes:
    public = relay_keys().identity.ed25519
    assert public is not None
    return public


def link(key: bytes, end_utc_s: float = END_UTC_S, signer: int = 0, kind: CertType = CertType.LINK) -> bytes:
    sign = relay_keys(signer).ed25519_signing.sign
    return certs.build_ed25519_cert(kind, KeyType.X509_SHA256, key, end_utc_s, sign)


def signing(end_utc_s: float = END_UTC_S, named: bytes | None = b"", signer: int = 0) -> bytes:
    keys = relay_keys()
    return certs.build_ed25519_cert(
        CertType.SIGNING,
        KeyType.ED25519,
        keys.ed25519_signing.public_key().public_bytes_raw(),
        end_utc_s,
        relay_keys(signer).ed25519_identity.sign,
        ed25519_public() if named == b"" else named,
    )


def x509(start_utc_s: float, end_utc_s: float) -> bytes:
    return certs.build_self_signed(relay_keys().rsa_identity, "id", start_utc_s, end_utc_s)


def x509_of(key: rsa.RSAPrivateKey) -> bytes:
    return certs.build_self_signed(key, "id", NOW_UTC_S - DAY_S, END_UTC_S)


def test_good_ones_prove_both_identities() -> None:
    verified = verify_responder(encode_certs(good()), TLS_DER, NOW_UTC_S)
    assert verified.identity == relay_keys().identity
    assert verified.signing_key == relay_keys().ed25519_signing.public_key().public_bytes_raw()


def test_trailing_bytes_and_unknown_types_are_ignored() -> None:
    payload = bytearray(encode_certs(good()))
    payload[0] += 1
    verify_responder(bytes(payload) + b"\x63\x00\x01x" + b"padding", TLS_DER, NOW_UTC_S)


@pytest.mark.parametrize("kind", [CertType.RSA_IDENTITY, CertType.SIGNING, CertType.LINK, CertType.CROSS])
def test_each_is_needed_once(kind: CertType) -> None:
    found = good()
    payload = bytearray(encode_certs(found))
    payload[0] += 1
    again = bytes((kind,)) + len(found[kind]).to_bytes(2, "big") + found[kind]
    with pytest.raises(CertError, match=f"more than one certificate of type {int(kind)}"):
        verify_responder(bytes(payload) + again, TLS_DER, NOW_UTC_S)
    del found[kind]
    with pytest.raises(CertError, match=f"no certificate of type {int(kind)}"):
        verify(found)


FLAWS: list[tuple[CertType, Callable[[], bytes], str]] = [
    (CertType.RSA_IDENTITY, lambda: b"", "type 2: not a usable X.509 certificate"),
    (CertType.RSA_IDENTITY, lambda: b"\x30\x03\x02\x01\x01", "type 2: not a usable X.509 certificate"),
    (CertType.RSA_IDENTITY, lambda: flip(good()[CertType.RSA_IDENTITY], -1), "type 2: not signed with its own key"),
    (CertType.RSA_IDENTITY, lambda: TLS_DER, "type 2: the key is not a 1024-bit RSA key"),
    (CertType.RSA_IDENTITY, lambda: x509(NOW_UTC_S - 9, NOW_UTC_S - 1), "type 2: expired at 2027-01-15 07:59:59 UTC"),
    (CertType.RSA_IDENTITY, lambda: x509(NOW_UTC_S + 1, END_UTC_S), "type 2: valid from 2027-01-15 08:00:01 UTC only"),
    (CertType.RSA_IDENTITY, lambda: x509_of(relay_keys().tap_onion), "type 7: the signature is wrong"),
    (CertType.RSA_IDENTITY, lambda: good(1)[CertType.RSA_IDENTITY], "type 7: the signature is wrong"),
    (CertType.SIGNING, lambda: signing(NOW_UTC_S - 3600), "type 4: expired at 2027-01-15 07:00:00 UTC"),
    (CertType.SIGNING, lambda: signing(named=None), "type 4: does not name the key that signed it"),
    (CertType.SIGNING, lambda: signing(signer=1), "type 4: the signature is wrong"),
    (CertType.SIGNING, lambda: flip(good()[CertType.SIGNING], 10), "type 4: the signature is wrong"),
    (CertType.SIGNING, lambda: flip(good()[CertType.SIGNING], 0), "version 0, 1 expected"),
    (CertType.SIGNING, lambda: good()[CertType.LINK], "type 4: says it is of type 5"),
    (CertType.SIGNING, lambda: good(1)[CertType.SIGNING], "type 7: vouches for another ed25519 identity"),
    (CertType.LINK, lambda: link(bytes(32)), "type 5: made for another TLS certificate"),
    (CertType.LINK, lambda: link(tls_sha256(), NOW_UTC_S - 3600), "type 5: expired at"),
    (CertType.LINK, lambda: link(tls_sha256(), signer=1), "type 5: the signature is wrong"),
    (CertType.LINK, lambda: link(tls_sha256(), kind=CertType.AUTH), "type 5: says it is of type 6"),
    (CertType.LINK, lambda: good()[CertType.LINK][:100], "100 bytes, at least 104 expected"),
    (CertType.CROSS, lambda: certs.build_cross_cert(ed25519_public(), NOW_UTC_S - 3600, relay_keys().rsa_identity),
     "type 7: expired at"),
    (CertType.CROSS, lambda: certs.build_cross_cert(ed25519_public(), END_UTC_S, relay_keys(1).rsa_identity),
     "type 7: the signature is wrong"),
    (CertType.CROSS, lambda: certs.build_cross_cert(bytes(32), END_UTC_S, relay_keys().rsa_identity),
     "type 7: vouches for another ed25519 identity"),
    (CertType.CROSS, lambda: good()[CertType.CROSS][:-1], "type 7: its length and its signature's do not agree"),
    (CertType.CROSS, lambda: b"", "type 7: its length"),
]  # fmt: skip


def tls_sha256() -> bytes:
    return hashlib.sha256(TLS_DER).digest()


@pytest.mark.parametrize(("kind", "flawed", "reason"), FLAWS)
def test_each_flaw_is_named(kind: CertType, flawed: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(CertError, match=reason):
        verify({**good(), kind: flawed()})


def test_another_relays_signing_key_cannot_be_swapped_in() -> None:
    """The attacker's own types 4 and 5 with the victim's 2 and 7."""
    mine, victim = good(1), good()
    swapped = {**victim, CertType.SIGNING: mine[CertType.SIGNING], CertType.LINK: mine[CertType.LINK]}
    with pytest.raises(CertError, match="type 7: vouches for another ed25519 identity"):
        verify(swapped)


def test_an_elliptic_curve_identity_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = library.Name([])
    cert = (
        library.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.fromtimestamp(NOW_UTC_S - DAY_S, UTC))
        .not_valid_after(datetime.fromtimestamp(END_UTC_S, UTC))
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(CertError, match="not a 1024-bit RSA key"):
        verify({**good(), CertType.RSA_IDENTITY: cert.public_bytes(Encoding.DER)})


EXTENSIONS = [
    (b"\x01" + b"\x00\x01\x63\x01x", "has an extension that affects validation and is unknown"),
    (b"\x01" + b"\x00\x09\x63\x00x", "an extension is cut short"),
    (b"\x01" + b"\x00", "an extension is cut short"),
    (b"\x00" + b"xyz", "bytes between the extensions and the signature"),
    (b"\x01" + b"\x00\x20\x04\x00" + bytes(32), "names another signing key than the expected one"),
]


@pytest.mark.parametrize(("extensions", "reason"), EXTENSIONS)
def test_extensions(extensions: bytes, reason: str) -> None:
    body = good()[CertType.LINK][:39] + extensions
    cert = body + relay_keys().ed25519_signing.sign(body)
    with pytest.raises(CertError, match=reason):
        verify({**good(), CertType.LINK: cert})


def test_an_unknown_extension_that_does_not_matter_is_ignored() -> None:
    body = good()[CertType.LINK][:39] + b"\x01" + b"\x00\x01\x63\x00x"
    verify({**good(), CertType.LINK: body + relay_keys().ed25519_signing.sign(body)})


def test_tor_before_0_4_5_called_every_key_ed25519() -> None:
    sign = relay_keys().ed25519_signing.sign
    old = certs.build_ed25519_cert(CertType.LINK, KeyType.ED25519, tls_sha256(), END_UTC_S, sign)
    verify({**good(), CertType.LINK: old})


def test_a_certificate_is_valid_up_to_its_last_second() -> None:
    end = NOW_UTC_S - NOW_UTC_S % 3600
    found = {**good(), CertType.LINK: link(tls_sha256(), end)}
    verify_responder(encode_certs(found), TLS_DER, end)
    with pytest.raises(CertError, match="type 5: expired"):
        verify_responder(encode_certs(found), TLS_DER, end + 1)


def test_initiator_certificates_name_the_key_that_authenticates() -> None:
    verified, auth_key = verify_initiator(initiator_certs(relay_keys(), b"a" * 32, NOW_UTC_S), NOW_UTC_S)
    assert (verified.identity, auth_key) == (relay_keys().identity, b"a" * 32)
    with pytest.raises(CertError, match="no certificate of type 6"):
        verify_initiator(encode_certs(good()), NOW_UTC_S)
