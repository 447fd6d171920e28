"""Family keys of a server descriptor (proposal 321): relays that hold a certificate of one key are a family."""

import base64
import binascii
import re

from flashflow.orlink.certs import CertError, parse_ed25519_cert, verify_ed25519

FAMILY_CERT = 12
"""CERT_TYPE of a certificate in which a family key names a relay's ed25519 identity."""
MAX_CERTS = 8
"""Authorities may refuse more than three."""
_BLOCK = re.compile(
    rb"^family-cert\r?\n-----BEGIN FAMILY CERT-----\r?\n([0-9A-Za-z+/=\r\n]{1,1000}?)-----END FAMILY CERT-----",
    re.MULTILINE,
)


def family_keys(descriptor: bytes, ed25519: bytes | None, at_utc_s: float) -> tuple[bytes, ...]:
    """The keys, 32 bytes each, sorted, of which the descriptor of relay `ed25519` has certificates valid then."""
    blocks = [found.group(1) for found in _BLOCK.finditer(descriptor)][:MAX_CERTS]
    keys = {_key_of(block, ed25519, at_utc_s) for block in blocks if ed25519 is not None}
    return tuple(sorted(key for key in keys if key is not None))


def _key_of(text: bytes, ed25519: bytes | None, at_utc_s: float) -> bytes | None:
    try:
        cert = parse_ed25519_cert(base64.b64decode(b"".join(text.split()), validate=True))
    except (CertError, binascii.Error):
        return None
    right = cert.cert_type == FAMILY_CERT and cert.key == ed25519 and not cert.unknown_critical
    if not right or cert.signed_with is None or at_utc_s > cert.expires_utc_s:
        return None
    return cert.signed_with if verify_ed25519(cert.signed_with, cert.signature, cert.signed) else None
