"""A relay's signed server descriptor (dir-spec 2.1.1)."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from flashflow.orlink import expanded
from flashflow.orlink.certs import (
    CertType,
    KeyType,
    build_ed25519_cert,
    rsa_public_der,
    sign_rsa_bare,
)
from flashflow.orlink.certs_cell import LIFETIME_S, signing_cert
from flashflow.orlink.keys import RelayKeys, pem

_ED25519_PREFIX: Final = b"Tor router descriptor signature v1"
PROTO: Final = "Link=4-5 LinkAuth=3 Relay=2"
"""Subprotocols that the reference relay speaks (tor-spec 9)."""


def build_server_descriptor(
    keys: RelayKeys,
    *,
    nickname: str,
    address: str,
    or_port: int,
    bandwidth_avg: int,
    bandwidth_burst: int,
    bandwidth_observed: int,
    published_utc_s: float,
    ipv6: tuple[str, int] | None = None,
    family: Sequence[str] = (),
) -> str:
    """The descriptor of a relay that carries no exit traffic.

    `address` is IPv4, as dir-spec asks for; `ipv6` adds an or-address (ip, port). Bandwidths are bytes/s. `family` holds
    `$fingerprint` or nickname entries. `published_utc_s` also counts as now for the certificates inside.
    """
    published = datetime.fromtimestamp(int(published_utc_s), UTC).strftime("%Y-%m-%d %H:%M:%S")
    expires_utc_s = published_utc_s + LIFETIME_S
    fingerprint = keys.identity.rsa_fingerprint.hex().upper()
    spaced = " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))
    lines = [
        f"router {nickname} {address} {or_port} 0 0",
        "identity-ed25519",
        pem("ED25519 CERT", signing_cert(keys, expires_utc_s)) + f"master-key-ed25519 {_master_key(keys)}",
        *([f"or-address [{ipv6[0]}]:{ipv6[1]}"] if ipv6 else []),
        "platform FlashFlow reference relay",
        f"proto {PROTO}",
        f"published {published}",
        f"fingerprint {spaced}",
        f"bandwidth {bandwidth_avg} {bandwidth_burst} {bandwidth_observed}",
        "onion-key",
        _rsa_pem(keys.tap_onion.public_key()) + "signing-key",
        _rsa_pem(keys.rsa_identity.public_key()) + "onion-key-crosscert",
        _tap_crosscert(keys) + _ntor_crosscert(keys, expires_utc_s),
        *([f"family {' '.join(family)}"] if family else []),
        f"ntor-onion-key {_base64(keys.ntor_public)}",
        "reject *:*",
        "router-sig-ed25519 ",
    ]
    return _signed(keys, "\n".join(lines))


def _signed(keys: RelayKeys, text: str) -> str:
    """Adds both signatures; `text` ends with the space behind router-sig-ed25519, which the first one covers."""
    digest = hashlib.sha256(_ED25519_PREFIX + text.encode()).digest()
    text += _base64(keys.ed25519_signing.sign(digest)) + "\nrouter-signature\n"
    sha1 = hashlib.sha1(text.encode(), usedforsecurity=False).digest()
    return text + pem("SIGNATURE", sign_rsa_bare(keys.rsa_identity, sha1))


def _tap_crosscert(keys: RelayKeys) -> str:
    """onion-key-crosscert: the TAP onion key signs both identities."""
    identities = keys.identity.rsa_fingerprint + keys.ed25519_identity.public_key().public_bytes_raw()
    return pem("CROSSCERT", sign_rsa_bare(keys.tap_onion, identities))


def _ntor_crosscert(keys: RelayKeys, expires_utc_s: float) -> str:
    """ntor-onion-key-crosscert: the ntor key, as an ed25519 key, certifies the master identity."""
    sign_bit = expanded.ed25519_public(keys.ntor_private)[31] >> 7
    certificate = build_ed25519_cert(
        CertType.NTOR_CROSS,
        KeyType.ED25519,
        keys.ed25519_identity.public_key().public_bytes_raw(),
        expires_utc_s,
        lambda body: expanded.sign(keys.ntor_private, body),
    )
    return f"ntor-onion-key-crosscert {sign_bit}\n" + pem("ED25519 CERT", certificate).rstrip("\n")


def _master_key(keys: RelayKeys) -> str:
    return _base64(keys.ed25519_identity.public_key().public_bytes_raw())


def _rsa_pem(key: RSAPublicKey) -> str:
    return pem("RSA PUBLIC KEY", rsa_public_der(key))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
