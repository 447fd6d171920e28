"""The ntor handshake, both sides (tor-spec 5.1.4), and the circuit keys it gives (5.2.2).

Private keys and ephemeral keys are X25519 private keys of 32 bytes and come in as arguments.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from flashflow.model.errors import PeerError

ONIONSKIN_BYTES: Final = 84
"""NODEID (20), KEYID (32), CLIENT_KP (32)."""
REPLY_BYTES: Final = 64
"""SERVER_KP (32), AUTH (32)."""
_PROTOID: Final = b"ntor-curve25519-sha256-1"


class NtorError(PeerError):
    """The other side's half of the handshake is wrong."""


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """Keys of one hop, shared by client and relay."""

    df: bytes = field(repr=False)
    """Forward digest seed, 20 bytes."""
    db: bytes = field(repr=False)
    """Backward digest seed, 20 bytes."""
    kf: bytes = field(repr=False)
    """Forward AES-128 key, 16 bytes."""
    kb: bytes = field(repr=False)
    """Backward AES-128 key, 16 bytes."""
    kh: bytes = field(repr=False)
    """Nonce derived last, 20 bytes (KH)."""


@dataclass(frozen=True, slots=True)
class NtorClientState:
    """What the client keeps between its onionskin and the reply."""

    node_id: bytes
    """SHA-1 fingerprint of the relay's RSA identity, 20 bytes."""
    ntor_key: bytes
    """The relay's ntor onion key B, 32 bytes."""
    ephemeral_private: bytes = field(repr=False)
    """x, 32 bytes."""
    ephemeral_public: bytes
    """X, 32 bytes."""


def public_key(private: bytes) -> bytes:
    """The X25519 public key, 32 bytes, of a private key of 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def client_begin(node_id: bytes, ntor_key: bytes, ephemeral_private: bytes) -> tuple[NtorClientState, bytes]:
    """Starts a handshake with a relay; gives the state to keep and the onionskin of 84 bytes to send."""
    public = public_key(ephemeral_private)
    return NtorClientState(node_id, ntor_key, ephemeral_private, public), node_id + ntor_key + public


def client_finish(state: NtorClientState, reply: bytes) -> KeyMaterial:
    """Checks the relay's reply (64 bytes or more; the rest is ignored). NtorError if it is not from that relay."""
    if len(reply) < REPLY_BYTES:
        raise NtorError(f"ntor reply: {len(reply)} bytes, {REPLY_BYTES} expected")
    server_public, auth = reply[:32], reply[32:REPLY_BYTES]
    shared = _exchange(state.ephemeral_private, server_public) + _exchange(
        state.ephemeral_private, state.ntor_key
    )
    seed, expected = _derive(shared, state.node_id, state.ntor_key, state.ephemeral_public, server_public)
    if not hmac.compare_digest(auth, expected):
        raise NtorError(
            "ntor reply: AUTH is wrong, the relay does not own the expected ntor key and identity"
        )
    return expand_keys(seed)


def server_reply(
    node_id: bytes, ntor_private: bytes, onionskin: bytes, ephemeral_private: bytes
) -> tuple[bytes, KeyMaterial]:
    """Answers a client's onionskin (84 bytes or more): the reply of 64 bytes and the hop's keys.

    NtorError if the onionskin is short or meant for another relay or key.
    """
    if len(onionskin) < ONIONSKIN_BYTES:
        raise NtorError(f"ntor onionskin: {len(onionskin)} bytes, {ONIONSKIN_BYTES} expected")
    onion_key = public_key(ntor_private)
    if onionskin[:20] != node_id or onionskin[20:52] != onion_key:
        raise NtorError("ntor onionskin: made for another relay identity or ntor key")
    client_public = onionskin[52:ONIONSKIN_BYTES]
    server_public = public_key(ephemeral_private)
    shared = _exchange(ephemeral_private, client_public) + _exchange(ntor_private, client_public)
    seed, auth = _derive(shared, node_id, onion_key, client_public, server_public)
    return server_public + auth, expand_keys(seed)


def expand_keys(key_seed: bytes) -> KeyMaterial:
    """The hop's keys out of KEY_SEED, 32 bytes (tor-spec 5.2.2)."""
    block = HKDFExpand(hashes.SHA256(), 92, _PROTOID + b":key_expand").derive(key_seed)
    return KeyMaterial(block[:20], block[20:40], block[40:56], block[56:72], block[72:92])


def _exchange(private: bytes, public: bytes) -> bytes:
    try:
        # The library refuses a shared secret of zeros: the check for the point at infinity that the spec asks for.
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError as exc:
        raise NtorError("ntor: a public key of the other side is a point of small order") from exc


def _derive(
    shared: bytes, node_id: bytes, onion_key: bytes, client: bytes, server: bytes
) -> tuple[bytes, bytes]:
    """KEY_SEED and AUTH out of both shared secrets and all public values."""
    secret_input = shared + node_id + onion_key + client + server + _PROTOID
    verify = _mac(b":verify", secret_input)
    auth_input = verify + node_id + onion_key + server + client + _PROTOID + b"Server"
    return _mac(b":key_extract", secret_input), _mac(b":mac", auth_input)


def _mac(tag: bytes, message: bytes) -> bytes:
    return hmac.digest(_PROTOID + tag, message, hashlib.sha256)
