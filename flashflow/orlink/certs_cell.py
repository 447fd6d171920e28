"""The CERTS cell: how a relay says who it is, and how the other side makes sure (tor-spec 4.2)."""

import hashlib
from dataclasses import dataclass
from typing import Final

from flashflow.orlink.certs import (
    CertError,
    CertType,
    KeyType,
    RelayIdentity,
    RsaIdentity,
    build_cross_cert,
    build_ed25519_cert,
    build_self_signed,
    verify_cross_cert,
    verify_ed25519_cert,
    verify_rsa_identity,
)
from flashflow.orlink.keys import RelayKeys

_DAY_S: Final = 86_400
LIFETIME_S: Final = 30 * _DAY_S
"""How long the certificates are valid that a relay makes for a link."""
BACKDATE_S: Final = 2 * _DAY_S
"""How far back the X.509 certificate starts, for peers whose clock is behind."""


@dataclass(frozen=True, slots=True)
class VerifiedCerts:
    """What a CERTS cell proves, once it has been verified."""

    identity: RelayIdentity
    """Both identities."""
    rsa: RsaIdentity
    """The RSA identity with its key."""
    signing_key: bytes
    """The ed25519 signing key, 32 bytes, that the identity certified."""


def parse_certs(payload: bytes) -> dict[int, bytes]:
    """The certificates of a CERTS cell by type. CertError if it is cut short or has a type twice."""
    certs: dict[int, bytes] = {}
    start = 1
    for _ in range(payload[0] if payload else 0):
        size = int.from_bytes(payload[start + 1 : start + 3], "big")
        end = start + 3 + size
        if len(payload) < start + 3 or len(payload) < end:
            raise CertError("CERTS cell: cut short")
        if payload[start] in certs:
            raise CertError(f"CERTS cell: more than one certificate of type {payload[start]}")
        certs[payload[start]] = payload[start + 3 : end]
        start = end
    return certs


def encode_certs(certs: dict[CertType, bytes]) -> bytes:
    """Payload of a CERTS cell."""
    entries = [bytes((kind,)) + len(cert).to_bytes(2, "big") + cert for kind, cert in certs.items()]
    return bytes((len(entries),)) + b"".join(entries)


def responder_certs(keys: RelayKeys, link_certificate_der: bytes, now_utc_s: float) -> bytes:
    """Payload of the CERTS cell with which a relay answers: types 2, 4, 5, 7, bound to its TLS certificate."""
    digest = hashlib.sha256(link_certificate_der).digest()
    link = build_ed25519_cert(
        CertType.LINK, KeyType.X509_SHA256, digest, now_utc_s + LIFETIME_S, keys.ed25519_signing.sign
    )
    return encode_certs({**_identity_certs(keys, now_utc_s), CertType.LINK: link})


def initiator_certs(keys: RelayKeys, auth_public: bytes, now_utc_s: float) -> bytes:
    """Payload of the CERTS cell of an initiator that authenticates with ed25519 key `auth_public`: 2, 4, 6, 7."""
    auth = build_ed25519_cert(
        CertType.AUTH, KeyType.ED25519, auth_public, now_utc_s + LIFETIME_S, keys.ed25519_signing.sign
    )
    return encode_certs({**_identity_certs(keys, now_utc_s), CertType.AUTH: auth})


def signing_cert(keys: RelayKeys, expires_utc_s: float) -> bytes:
    """Certificate of type 4: the master identity certifies the signing key, and names itself."""
    identity = keys.ed25519_identity
    signing = keys.ed25519_signing.public_key().public_bytes_raw()
    named = identity.public_key().public_bytes_raw()
    return build_ed25519_cert(CertType.SIGNING, KeyType.ED25519, signing, expires_utc_s, identity.sign, named)


def _identity_certs(keys: RelayKeys, now_utc_s: float) -> dict[CertType, bytes]:
    start, end = now_utc_s - BACKDATE_S, now_utc_s + LIFETIME_S
    ed25519 = keys.ed25519_identity.public_key().public_bytes_raw()
    return {
        CertType.RSA_IDENTITY: build_self_signed(keys.rsa_identity, "identity", start, end),
        CertType.SIGNING: signing_cert(keys, end),
        CertType.CROSS: build_cross_cert(ed25519, end, keys.rsa_identity),
    }


def verify_responder(payload: bytes, tls_certificate_der: bytes, now_utc_s: float) -> VerifiedCerts:
    """Who a relay proves to be whose TLS certificate was `tls_certificate_der`. CertError with the first flaw."""
    certs = parse_certs(payload)
    verified = _verify_identity(certs, now_utc_s)
    link = verify_ed25519_cert(_take(certs, CertType.LINK), CertType.LINK, verified.signing_key, now_utc_s)
    # The key type is not looked at: tor wrote 1 instead of 3 until 0.4.5 (cert-spec A.4).
    if link.key != hashlib.sha256(tls_certificate_der).digest():
        raise CertError("certificate of type 5: made for another TLS certificate than this link's")
    return verified


def verify_initiator(payload: bytes, now_utc_s: float) -> tuple[VerifiedCerts, bytes]:
    """Who an initiator claims to be, and the ed25519 key, 32 bytes, with which it has to sign AUTHENTICATE."""
    certs = parse_certs(payload)
    verified = _verify_identity(certs, now_utc_s)
    auth = verify_ed25519_cert(_take(certs, CertType.AUTH), CertType.AUTH, verified.signing_key, now_utc_s)
    return verified, auth.key


def _verify_identity(certs: dict[int, bytes], now_utc_s: float) -> VerifiedCerts:
    """Checks types 2, 4 and 7 and that they belong together."""
    rsa = verify_rsa_identity(_take(certs, CertType.RSA_IDENTITY), now_utc_s)
    signing = verify_ed25519_cert(_take(certs, CertType.SIGNING), CertType.SIGNING, None, now_utc_s)
    ed25519 = verify_cross_cert(_take(certs, CertType.CROSS), rsa.key, now_utc_s)
    if ed25519 != signing.signed_with:
        raise CertError("certificate of type 7: vouches for another ed25519 identity than type 4 names")
    return VerifiedCerts(RelayIdentity(rsa.fingerprint, ed25519), rsa, signing.key)


def _take(certs: dict[int, bytes], kind: CertType) -> bytes:
    if kind not in certs:
        raise CertError(f"CERTS cell: no certificate of type {int(kind)}")
    return certs[kind]
