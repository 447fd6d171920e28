"""AUTH_CHALLENGE and AUTHENTICATE cells, type 3: how the initiator of a link proves who it is (tor-spec 4.3, 4.4.2)."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flashflow.orlink.cells import CellError
from flashflow.orlink.certs import SIGNATURE_BYTES, CertError, verify_ed25519

METHOD: Final = 3
"""Ed25519-SHA256-RFC5705, the only method that is offered and accepted."""
EXPORTER_LABEL: Final = b"EXPORTER FOR TOR TLS CLIENT BINDING AUTH0003"
EXPORTED_BYTES: Final = 32
_TYPE: Final = b"AUTH0003"
_RANDOM_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class AuthSecrets:
    """Access to the TLS session's exporter; the context is only known in the middle of the handshake."""

    export: Callable[[bytes, bytes, int], bytes]
    """RFC 5705: (label, context, length in bytes) gives the keying material."""

    def binding(self, initiator_rsa_sha256: bytes) -> bytes:
        """TLSSECRETS. tor's context is the initiator's RSA identity (CID), though the spec's text says ed25519."""
        return self.export(EXPORTER_LABEL, initiator_rsa_sha256, EXPORTED_BYTES)


@dataclass(frozen=True, slots=True)
class AuthFacts:
    """What both sides know and the initiator signs; each 32 bytes."""

    initiator_rsa_sha256: bytes
    """CID."""
    responder_rsa_sha256: bytes
    """SID."""
    initiator_ed25519: bytes
    """CID_ED."""
    responder_ed25519: bytes
    """SID_ED."""
    responder_log: bytes
    """SLOG: SHA-256 of what the responder sent, up to AUTH_CHALLENGE."""
    initiator_log: bytes
    """CLOG: SHA-256 of what the initiator sent before AUTHENTICATE."""
    tls_certificate_sha256: bytes
    """SCERT."""
    tls_binding: bytes
    """TLSSECRETS."""

    def encode(self) -> bytes:
        """The signed fields from TYPE to TLSSECRETS."""
        identities = self.initiator_rsa_sha256 + self.responder_rsa_sha256
        identities += self.initiator_ed25519 + self.responder_ed25519
        logs = self.responder_log + self.initiator_log
        return _TYPE + identities + logs + self.tls_certificate_sha256 + self.tls_binding


def encode_challenge(challenge: bytes) -> bytes:
    """Payload of an AUTH_CHALLENGE cell that offers method 3; `challenge` is 32 random bytes."""
    return challenge + (1).to_bytes(2, "big") + METHOD.to_bytes(2, "big")


def parse_challenge(payload: bytes) -> tuple[bytes, tuple[int, ...]]:
    """Challenge (32 bytes) and methods of an AUTH_CHALLENGE cell. CellError if it is cut short."""
    count = int.from_bytes(payload[32:34], "big")
    if len(payload) < 34 or len(payload) < 34 + 2 * count:
        raise CellError("AUTH_CHALLENGE cell: cut short")
    methods = (int.from_bytes(payload[at : at + 2], "big") for at in range(34, 34 + 2 * count, 2))
    return payload[:32], tuple(methods)


def encode_authenticate(facts: AuthFacts, random: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """Payload of an AUTHENTICATE cell; `random` is 24 bytes, `sign` signs with the key of certificate type 6."""
    signed = facts.encode() + random
    body = signed + sign(signed)
    return METHOD.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


def verify_authenticate(payload: bytes, facts: AuthFacts, auth_key: bytes) -> None:
    """Checks an AUTHENTICATE cell. CellError if it is malformed, CertError if it proves nothing about this link."""
    size = int.from_bytes(payload[2:4], "big")
    body = payload[4 : 4 + size]
    if len(payload) < 4 or len(body) < size:
        raise CellError("AUTHENTICATE cell: cut short")
    method = int.from_bytes(payload[:2], "big")
    if method != METHOD:
        raise CellError(f"AUTHENTICATE cell: method {method}, {METHOD} expected")
    expected = facts.encode()
    if len(body) < len(expected) + _RANDOM_BYTES + SIGNATURE_BYTES:
        raise CellError(f"AUTHENTICATE cell: {len(body)} bytes of authentication are too few")
    if not hmac.compare_digest(body[: len(expected)], expected):
        raise CertError("AUTHENTICATE cell: made for another link, or for other identities")
    if not verify_ed25519(auth_key, body[-SIGNATURE_BYTES:], body[:-SIGNATURE_BYTES]):
        raise CertError("AUTHENTICATE cell: the signature is wrong")
