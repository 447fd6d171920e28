"""Certificates between coordinator and measurers: self-signed ECDSA P-256, pinned by SHA-256; O= is the name.

`certificates` makes and reads the PEM files; `flashflow/shell/mtls.py` makes TLS contexts of them.
"""

from flashflow.keys.certificates import (
    OwnIdentity,
    PeerIdentity,
    check_name,
    fingerprint_sha256,
    keygen,
    load_certificate,
    load_own,
    load_peer_certs,
)

__all__ = [
    "OwnIdentity",
    "PeerIdentity",
    "check_name",
    "fingerprint_sha256",
    "keygen",
    "load_certificate",
    "load_own",
    "load_peer_certs",
]
