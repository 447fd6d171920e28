import hashlib

import pytest

from flashflow.orlink.certs import (
    CertError,
    CertType,
    KeyType,
    build_ed25519_cert,
    parse_ed25519_cert,
    rsa_fingerprint,
    rsa_public_der,
    sign_rsa_bare,
    verify_ed25519_cert,
    verify_rsa_bare,
)
from support.orlink_keys import NOW_UTC_S, relay_keys

KEYS = relay_keys()
RSA = KEYS.rsa_identity.public_key()
SIGNING = KEYS.ed25519_signing.public_key().public_bytes_raw()


def test_what_is_built_is_read_back() -> None:
    sign = KEYS.ed25519_signing.sign
    data = build_ed25519_cert(CertType.LINK, KeyType.X509_SHA256, b"d" * 32, NOW_UTC_S + 1, sign, SIGNING)
    cert = parse_ed25519_cert(data)
    assert (cert.cert_type, cert.key_type, cert.key) == (CertType.LINK, KeyType.X509_SHA256, b"d" * 32)
    assert cert.signed_with == SIGNING
    assert 0 <= NOW_UTC_S + 1 - cert.expires_utc_s < 3600
    assert cert.signed + cert.signature == data
    assert verify_ed25519_cert(data, CertType.LINK, SIGNING, cert.expires_utc_s) == cert


@pytest.mark.parametrize("signer", [bytes(32), b"\xff" * 32])
def test_a_signer_that_is_no_key_verifies_nothing(signer: bytes) -> None:
    data = build_ed25519_cert(CertType.LINK, KeyType.ED25519, bytes(32), NOW_UTC_S, KEYS.ed25519_signing.sign)
    with pytest.raises(CertError, match="the signature is wrong"):
        verify_ed25519_cert(data, CertType.LINK, signer, 0)


@pytest.mark.parametrize(
    "digest", [hashlib.sha1(b"x").digest(), hashlib.sha256(b"x").digest(), b"52 bytes" * 7]
)
def test_bare_rsa_signatures(digest: bytes) -> None:
    signature = sign_rsa_bare(KEYS.rsa_identity, digest)
    assert verify_rsa_bare(RSA, signature, digest)
    assert not verify_rsa_bare(RSA, signature, digest + b"!")
    assert not verify_rsa_bare(RSA, signature[:-1] + bytes((signature[-1] ^ 1,)), digest)
    for length in (0, 1, 127, 129):
        assert not verify_rsa_bare(RSA, bytes(length), digest)


def test_the_fingerprint_is_over_the_pkcs1_key() -> None:
    assert rsa_public_der(RSA)[:4] == bytes.fromhex("30818902")
    assert rsa_fingerprint(RSA) == hashlib.sha1(rsa_public_der(RSA)).digest()
