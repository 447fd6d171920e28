"""Makes and reads the key and certificate files: NAME.pem (key and certificate), NAME.cert.pem (to give away)."""

import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from flashflow.model.errors import LocalError, UsageError

BACKDATED = timedelta(days=2)
"""A peer whose clock is behind must not find the certificate not yet valid."""
VALID = timedelta(days=3652)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL
)
_MAX_FILE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """A certificate that is trusted."""

    name: str
    """Its O=."""
    fingerprint: str
    """SHA-256 of the certificate, 64 lower-case hex digits."""
    pem: str
    """The certificate alone, PEM."""
    not_after: datetime
    """When it expires, UTC."""
    file: Path
    """Where it was read."""


@dataclass(frozen=True, slots=True)
class OwnIdentity:
    """This process' own key and certificate."""

    name: str
    """Its O=."""
    fingerprint: str
    """SHA-256 of the certificate, 64 lower-case hex digits."""
    file: Path
    """PEM file with key and certificate."""
    not_after: datetime
    """When the certificate expires, UTC."""


def check_name(name: str) -> str:
    """`name` if it can be a certificate's O=. Raises UsageError."""
    if _NAME.fullmatch(name) is None or name.startswith("."):
        raise UsageError(
            f"not a name: {name[:80]!r} (expected 1 to 64 of A-Z a-z 0-9 . _ -, not starting with a dot)"
        )
    return name


def fingerprint_sha256(certificate: x509.Certificate | bytes) -> str:
    """SHA-256 of a certificate (or of its DER bytes), 64 lower-case hex digits."""
    der = certificate if isinstance(certificate, bytes) else certificate.public_bytes(Encoding.DER)
    return hashlib.sha256(der).hexdigest()


def keygen(path: Path, name: str, now: datetime) -> str:
    """Write a new P-256 key with a self-signed certificate (O=name) into `path`, mode 0600; give its fingerprint.

    Raises UsageError for a bad name, LocalError if the file exists or cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed(key, check_name(name), now)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_new(path, private + certificate.public_bytes(Encoding.PEM), 0o600)
    return fingerprint_sha256(certificate)


def certificate_path(own: Path) -> Path:
    """`NAME.cert.pem` beside `NAME.pem`."""
    return own.with_name(f"{own.name.removesuffix('.pem')}.cert.pem")


def export_certificate(own: Path, target: Path) -> None:
    """Write the certificate of `own`, without its key, into the new file `target`. Raises LocalError."""
    certificate = load_certificate(own)
    _write_new(target, certificate.pem.encode(), 0o644)


def load_certificate(path: Path) -> PeerIdentity:
    """The first certificate in `path`. Raises LocalError: unreadable, no certificate, no usable O=."""
    found = _CERTIFICATE.search(_read(path))
    if found is None:
        raise LocalError(f"{path}: no certificate in this file (expected PEM, as flashflow keygen writes it)")
    certificate = _parse(found.group(0), path)
    pem = certificate.public_bytes(Encoding.PEM).decode("ascii")
    return PeerIdentity(
        _name_of(certificate, path),
        fingerprint_sha256(certificate),
        pem,
        certificate.not_valid_after_utc,
        path,
    )


def load_own(path: Path, now: datetime) -> OwnIdentity:
    """Check that `path` holds a key and its certificate, valid at `now`. Raises LocalError that says what is wrong."""
    data = _read(path)
    peer = load_certificate(path)
    key = _PRIVATE_KEY.search(data)
    if key is None:
        raise LocalError(
            f"{path}: no private key in this file (expected key and certificate, from flashflow keygen)"
        )
    try:
        public = load_pem_private_key(key.group(0), None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise LocalError(f"{path}: the private key cannot be read ({_short(error)})") from None
    certificate = _parse(peer.pem.encode("ascii"), path)
    formats = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*formats) != certificate.public_key().public_bytes(*formats):
        raise LocalError(f"{path}: the private key does not belong to the certificate in the same file")
    if peer.not_after <= now:
        day = peer.not_after.date()
        raise LocalError(
            f"{path}: the certificate expired on {day} (make another with flashflow keygen, give it to the others)"
        )
    return OwnIdentity(peer.name, peer.fingerprint, path, peer.not_after)


def load_peer_certs(directory: Path, own: OwnIdentity) -> dict[str, PeerIdentity]:
    """Name -> certificate of every `*.pem` in `directory` but our own, whatever its file is called.

    Copies of one certificate count once. Raises LocalError for an unreadable file and for two certificates of one name.
    """
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix == ".pem" and path.is_file())
    except OSError as error:
        raise LocalError(f"{directory}: cannot list certificates ({error.strerror})") from None
    peers: dict[str, PeerIdentity] = {}
    for path in files:
        peer = load_certificate(path)
        if peer.fingerprint == own.fingerprint:
            continue
        known = peers.setdefault(peer.name, peer)
        if known.fingerprint != peer.fingerprint:
            raise LocalError(
                f"{path}: another certificate for {peer.name}, beside {known.file.name} (remove the one not in use)"
            )
    return peers


def _self_signed(key: ec.EllipticCurvePrivateKey, name: str, now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now - BACKDATED + VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(key, hashes.SHA256())
    )


def _name_of(certificate: x509.Certificate, path: Path) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    if len(names) != 1 or _NAME.fullmatch(str(names[0].value)) is None:
        raise LocalError(
            f"{path}: the certificate has no usable name (expected one O= as flashflow keygen writes it)"
        )
    return str(names[0].value)


def _parse(pem: bytes, path: Path) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.public_key(), certificate.subject, certificate.not_valid_after_utc  # read when asked for
        return certificate
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise LocalError(f"{path}: the certificate cannot be read ({_short(error)})") from None


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:100] or type(error).__name__


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except FileNotFoundError:
        raise LocalError(f"{path}: no such key or certificate file (flashflow keygen makes them)") from None
    except OSError as error:
        raise LocalError(f"{path}: cannot be read ({error.strerror})") from None


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise LocalError(f"{path}: exists already and is not overwritten") from None
    except OSError as error:
        raise LocalError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise LocalError(f"{path}: cannot be written ({error.strerror})") from None
