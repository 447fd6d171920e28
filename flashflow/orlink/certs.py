"""Tor's own certificates (cert-spec) and the X.509 certificates around them: parsed, verified, built.

Functions named `verify_…` give what the certificate vouches for, and raise CertError with the reason otherwise.
Times are seconds since the epoch, UTC.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from flashflow.model.errors import PeerError

SIGNATURE_BYTES: Final = 64
_HOUR_S: Final = 3600
_EXTENSION_SIGNED_WITH: Final = 4
_AFFECTS_VALIDATION: Final = 1
_CROSS_PREFIX: Final = b"Tor TLS RSA/Ed25519 cross-certificate"


class CertError(PeerError):
    """A certificate is malformed, expired, not rightly signed, or says something else than it has to."""


class CertType(IntEnum):
    """Certificate types, of the CERTS cell (tor-spec 4.2) and of ed25519 certificates (cert-spec A.1)."""

    RSA_LINK = 1
    RSA_IDENTITY = 2
    RSA_AUTH = 3
    SIGNING = 4
    LINK = 5
    AUTH = 6
    CROSS = 7
    NTOR_CROSS = 10


class KeyType(IntEnum):
    """What an ed25519 certificate certifies (cert-spec A.4)."""

    ED25519 = 1
    X509_SHA256 = 3


@dataclass(frozen=True, slots=True)
class RelayIdentity:
    """Both identities of a relay."""

    rsa_fingerprint: bytes
    """SHA-1 of the RSA identity key, 20 bytes."""
    ed25519: bytes | None
    """The ed25519 master identity key, 32 bytes; None where it is not known."""


@dataclass(frozen=True, slots=True)
class Ed25519Cert:
    """An ed25519 certificate as parsed: nothing of it is to be believed before `verify_ed25519_cert`."""

    cert_type: int
    """CERT_TYPE."""
    expires_utc_s: int
    """When it stops being valid; whole hours."""
    key_type: int
    """CERT_KEY_TYPE."""
    key: bytes
    """What is certified, 32 bytes."""
    signed_with: bytes | None
    """The signing key that an extension of type 4 names, 32 bytes, or None."""
    unknown_critical: bool
    """Whether it has an extension that affects validation and that this code does not know."""
    signed: bytes
    """The bytes that the signature covers."""
    signature: bytes
    """64 bytes."""


@dataclass(frozen=True, slots=True)
class RsaIdentity:
    """An RSA identity whose certificate was verified."""

    key: RSAPublicKey
    """The 1024-bit key."""

    @property
    def fingerprint(self) -> bytes:
        """SHA-1 of the key, 20 bytes."""
        return rsa_fingerprint(self.key)

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the key, 32 bytes, as AUTHENTICATE cells name it."""
        return hashlib.sha256(rsa_public_der(self.key)).digest()


def rsa_public_der(key: RSAPublicKey) -> bytes:
    """The key as PKCS#1 DER, over which Tor's fingerprints are taken (tor-spec 0.3)."""
    return key.public_bytes(Encoding.DER, PublicFormat.PKCS1)


def rsa_fingerprint(key: RSAPublicKey) -> bytes:
    """The relay fingerprint, 20 bytes."""
    return hashlib.sha1(rsa_public_der(key), usedforsecurity=False).digest()


def sign_rsa_bare(key: RSAPrivateKey, digest: bytes) -> bytes:
    """Tor's RSA signature: PKCS#1 v1.5 padding around a bare digest, without DigestInfo (tor-spec 0.3)."""
    return key.sign(digest, padding.PKCS1v15(), NoDigestInfo())


def verify_rsa_bare(key: RSAPublicKey, signature: bytes, digest: bytes) -> bool:
    """Whether `signature` is `sign_rsa_bare` of `digest`."""
    try:
        return key.recover_data_from_signature(signature, padding.PKCS1v15(), None) == digest
    except (InvalidSignature, ValueError):
        return False


def parse_ed25519_cert(data: bytes) -> Ed25519Cert:
    """Reads an ed25519 certificate (cert-spec 2.1). CertError if it is malformed."""
    if len(data) < 40 + SIGNATURE_BYTES:
        raise CertError(f"ed25519 certificate: {len(data)} bytes, at least {40 + SIGNATURE_BYTES} expected")
    if data[0] != 1:
        raise CertError(f"ed25519 certificate: version {data[0]}, 1 expected")
    signed, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    signed_with, unknown_critical = _parse_extensions(signed[40:], signed[39])
    expires_utc_s = int.from_bytes(data[2:6], "big") * _HOUR_S
    return Ed25519Cert(
        data[1], expires_utc_s, data[6], data[7:39], signed_with, unknown_critical, signed, signature
    )


def _parse_extensions(data: bytes, count: int) -> tuple[bytes | None, bool]:
    """The signed-with key, and whether an unknown extension affects validation."""
    signed_with, unknown_critical, start = None, False, 0
    for _ in range(count):
        size = int.from_bytes(data[start : start + 2], "big")
        body = data[start + 4 : start + 4 + size]
        if len(data) < start + 4 or len(body) < size:
            raise CertError("ed25519 certificate: an extension is cut short")
        kind, flags = data[start + 2], data[start + 3]
        if kind == _EXTENSION_SIGNED_WITH and size == 32:
            signed_with = body
        elif flags & _AFFECTS_VALIDATION:
            unknown_critical = True
        start += 4 + size
    if start != len(data):
        raise CertError("ed25519 certificate: bytes between the extensions and the signature")
    return signed_with, unknown_critical


def verify_ed25519_cert(
    data: bytes, cert_type: CertType, signer: bytes | None, now_utc_s: float
) -> Ed25519Cert:
    """The certificate, verified: of this type, not expired, signed by `signer`.

    `signer` None takes the key that the certificate names itself, as the one of type 4 must (cert-spec 2.2.1): it is
    in `signed_with` of the result.
    """
    cert = parse_ed25519_cert(data)
    what = f"certificate of type {int(cert_type)}"
    if cert.cert_type != cert_type:
        raise CertError(f"{what}: says it is of type {cert.cert_type}")
    if now_utc_s > cert.expires_utc_s:
        raise CertError(f"{what}: expired at {_stamp(cert.expires_utc_s)}")
    if cert.unknown_critical:
        raise CertError(f"{what}: has an extension that affects validation and is unknown")
    key = cert.signed_with if signer is None else signer
    if key is None:
        raise CertError(f"{what}: does not name the key that signed it")
    if cert.signed_with not in (None, key):
        raise CertError(f"{what}: names another signing key than the expected one")
    if not verify_ed25519(key, cert.signature, cert.signed):
        raise CertError(f"{what}: the signature is wrong")
    return cert


def verify_ed25519(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` (64 bytes) of `message` was made with ed25519 `key` (32 bytes)."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def build_ed25519_cert(
    cert_type: CertType,
    key_type: KeyType,
    key: bytes,
    expires_utc_s: float,
    sign: Callable[[bytes], bytes],
    signed_with: bytes | None = None,
) -> bytes:
    """An ed25519 certificate for `key` (32 bytes), signed by `sign`, naming the key `signed_with` if one is given."""
    hours = int(expires_utc_s // _HOUR_S)
    head = bytes((1, cert_type)) + hours.to_bytes(4, "big") + bytes((key_type,)) + key
    if signed_with is None:
        body = head + b"\0"
    else:
        body = head + b"\x01" + b"\x00\x20" + bytes((_EXTENSION_SIGNED_WITH, 0)) + signed_with
    return body + sign(body)


def build_cross_cert(ed25519: bytes, expires_utc_s: float, rsa: RSAPrivateKey) -> bytes:
    """Certificate of type 7: the RSA identity vouches for the ed25519 identity (cert-spec 2.3)."""
    body = ed25519 + int(expires_utc_s // _HOUR_S).to_bytes(4, "big")
    signature = sign_rsa_bare(rsa, hashlib.sha256(_CROSS_PREFIX + body).digest())
    return body + bytes((len(signature),)) + signature


def verify_cross_cert(data: bytes, rsa: RSAPublicKey, now_utc_s: float) -> bytes:
    """The ed25519 identity, 32 bytes, that a certificate of type 7 vouches for."""
    if len(data) < 37 or len(data) != 37 + data[36]:
        raise CertError("certificate of type 7: its length and its signature's do not agree")
    expires_utc_s = int.from_bytes(data[32:36], "big") * _HOUR_S
    if now_utc_s > expires_utc_s:
        raise CertError(f"certificate of type 7: expired at {_stamp(expires_utc_s)}")
    if not verify_rsa_bare(rsa, data[37:], hashlib.sha256(_CROSS_PREFIX + data[:36]).digest()):
        raise CertError("certificate of type 7: the signature is wrong")
    return data[:32]


def verify_rsa_identity(der: bytes, now_utc_s: float) -> RsaIdentity:
    """The RSA identity that an X.509 certificate of type 2 proves: RSA-1024, self-signed, valid now."""
    try:
        cert = x509.load_der_x509_certificate(der)
        key = cert.public_key()
        if not isinstance(key, RSAPublicKey) or key.key_size != 1024:
            raise CertError("certificate of type 2: the key is not a 1024-bit RSA key")
        _check_period(cert, now_utc_s)
        algorithm = cert.signature_hash_algorithm or hashes.SHA256()
        key.verify(cert.signature, cert.tbs_certificate_bytes, padding.PKCS1v15(), algorithm)
    except InvalidSignature as exc:
        raise CertError("certificate of type 2: not signed with its own key") from exc
    except CertError:
        raise
    except Exception as exc:
        # X.509 parsing is the library's: whatever it raises about a peer's bytes, they are the peer's fault.
        raise CertError(
            f"certificate of type 2: not a usable X.509 certificate ({type(exc).__name__})"
        ) from exc
    return RsaIdentity(key)


def _check_period(cert: x509.Certificate, now_utc_s: float) -> None:
    start, end = cert.not_valid_before_utc.timestamp(), cert.not_valid_after_utc.timestamp()
    if now_utc_s < start:
        raise CertError(f"certificate of type 2: valid from {_stamp(start)} only")
    if now_utc_s > end:
        raise CertError(f"certificate of type 2: expired at {_stamp(end)}")


def build_self_signed(key: RSAPrivateKey, common_name: str, start_utc_s: float, end_utc_s: float) -> bytes:
    """A self-signed X.509 certificate as DER; its serial number follows from key and start."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    seed = rsa_public_der(key.public_key()) + repr(start_utc_s).encode()
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(hashlib.sha256(seed).digest()[:8], "big") | 1)
        .not_valid_before(datetime.fromtimestamp(int(start_utc_s), UTC))
        .not_valid_after(datetime.fromtimestamp(int(end_utc_s), UTC))
        .sign(key, hashes.SHA256())
    )
    return cert.public_bytes(Encoding.DER)


def _stamp(utc_s: float) -> str:
    return datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
