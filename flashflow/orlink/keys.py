"""The keys that a relay owns, how they are stored, and its TLS link certificate."""

import base64
import json
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from flashflow.model.errors import LocalError
from flashflow.orlink import ntor
from flashflow.orlink.certs import RelayIdentity, build_self_signed, rsa_fingerprint

_VERSION: Final = 1
_PEM_LINE: Final = 64


@dataclass(frozen=True, slots=True)
class RelayKeys:
    """A relay's private keys. Certificates are made from them when they are needed, so none can be too old."""

    rsa_identity: rsa.RSAPrivateKey = field(repr=False)
    """1024-bit identity; its public key's SHA-1 is the fingerprint."""
    ed25519_identity: Ed25519PrivateKey = field(repr=False)
    """Master identity."""
    ed25519_signing: Ed25519PrivateKey = field(repr=False)
    """Signs link certificates and descriptors; certified by the master identity."""
    ntor_private: bytes = field(repr=False)
    """X25519 onion key, 32 bytes."""
    tap_onion: rsa.RSAPrivateKey = field(repr=False)
    """1024-bit onion key of the old TAP handshake: only descriptors still want it."""

    @classmethod
    def generate(cls) -> Self:
        """New keys, out of the cryptography library's own entropy."""
        return cls(
            rsa.generate_private_key(65_537, 1024),
            Ed25519PrivateKey.generate(),
            Ed25519PrivateKey.generate(),
            X25519PrivateKey.generate().private_bytes_raw(),
            rsa.generate_private_key(65_537, 1024),
        )

    @property
    def identity(self) -> RelayIdentity:
        """Both public identities."""
        public = self.ed25519_identity.public_key().public_bytes_raw()
        return RelayIdentity(rsa_fingerprint(self.rsa_identity.public_key()), public)

    @property
    def ntor_public(self) -> bytes:
        """The ntor onion key, 32 bytes."""
        return ntor.public_key(self.ntor_private)

    def to_json(self) -> str:
        """The keys as one JSON object, to be stored where only the relay can read it."""
        fields = {
            "rsa_identity": _rsa_der(self.rsa_identity),
            "ed25519_identity": self.ed25519_identity.private_bytes_raw(),
            "ed25519_signing": self.ed25519_signing.private_bytes_raw(),
            "ntor_private": self.ntor_private,
            "tap_onion": _rsa_der(self.tap_onion),
        }
        stored = {name: base64.b64encode(value).decode() for name, value in fields.items()}
        return json.dumps({"version": _VERSION, **stored}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The keys that `to_json` stored. LocalError if the text is something else."""
        try:
            stored = json.loads(text)
            if stored["version"] != _VERSION:
                raise LocalError(f"relay keys: version {stored['version']}, {_VERSION} expected")
            ntor_private = base64.b64decode(stored["ntor_private"], validate=True)
            ntor.public_key(ntor_private)
            return cls(
                _load_rsa(stored["rsa_identity"]),
                _load_ed25519(stored["ed25519_identity"]),
                _load_ed25519(stored["ed25519_signing"]),
                ntor_private,
                _load_rsa(stored["tap_onion"]),
            )
        except (ValueError, KeyError, TypeError, RecursionError, UnsupportedAlgorithm) as exc:
            raise LocalError(f"relay keys: not what was stored for a relay ({exc})") from exc


@dataclass(frozen=True, slots=True)
class LinkCertificate:
    """What a relay presents in TLS. Relays change it every few days; here, at each start."""

    certificate_der: bytes
    """Self-signed X.509 certificate, RSA-2048, whose SHA-256 the CERTS cell vouches for."""
    private_key_der: bytes = field(repr=False)
    """PKCS#8."""

    @property
    def pem(self) -> str:
        """Certificate and private key, as `ssl.SSLContext.load_cert_chain` reads them from one file."""
        key, certificate = pem("PRIVATE KEY", self.private_key_der), pem("CERTIFICATE", self.certificate_der)
        return key + certificate


def make_link_certificate(start_utc_s: float, end_utc_s: float, common_name: str = "link") -> LinkCertificate:
    """A new RSA-2048 link certificate, valid between two times (seconds since the epoch).

    RSA, because tor logs an error about other keys; `start_utc_s` should lie a day or two back for slow clocks.
    """
    key = rsa.generate_private_key(65_537, 2048)
    return LinkCertificate(build_self_signed(key, common_name, start_utc_s, end_utc_s), _rsa_der(key))


def pem(label: str, data: bytes) -> str:
    """`data` as a PEM object in the form that Tor's documents use too: lines of 64, a newline at the end."""
    text = base64.b64encode(data).decode()
    lines = [text[at : at + _PEM_LINE] for at in range(0, len(text), _PEM_LINE)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def _rsa_der(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _load_rsa(stored: str) -> rsa.RSAPrivateKey:
    key = load_der_private_key(base64.b64decode(stored, validate=True), None)
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != 1024:
        raise ValueError("a 1024-bit RSA key expected")
    return key


def _load_ed25519(stored: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(stored, validate=True))
