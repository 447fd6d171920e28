"""An initiator that proves who it is (AUTHENTICATE type 3), joined to our responder without sockets."""

import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flashflow.orlink.authenticate import (
    EXPORTER_LABEL,
    AuthFacts,
    AuthSecrets,
    encode_authenticate,
    encode_challenge,
    parse_challenge,
    verify_authenticate,
)
from flashflow.orlink.cells import Cell, CellReader, Command, encode_cell
from flashflow.orlink.certs import CertError, RsaIdentity
from flashflow.orlink.certs_cell import initiator_certs
from flashflow.orlink.link import LinkError, ResponderHandshake
from flashflow.orlink.netinfo import NetInfo
from support.orlink_keys import CHALLENGE, NOW_UTC_S, link_certificate, relay_keys, responder

AUTH_KEY = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
RELAY, CLIENT = 0, 1
VERSIONS = encode_cell(Cell(0, Command.VERSIONS, b"\x00\x05"), circ_id_bytes=2)
NETINFO = encode_cell(Cell(0, Command.NETINFO, NetInfo(0, "::1", ()).encode()))


def export(label: bytes, context: bytes, length_bytes: int) -> bytes:
    return hashlib.shake_128(label + context).digest(length_bytes)


def rsa_sha256(number: int) -> bytes:
    return RsaIdentity(relay_keys(number).rsa_identity.public_key()).sha256


def ed25519(number: int) -> bytes:
    return relay_keys(number).ed25519_identity.public_key().public_bytes_raw()


def logged(answer: bytes) -> bytes:
    """What a responder sent, up to and with AUTH_CHALLENGE."""
    reader = CellReader(circ_id_bytes=2)
    reader.feed(answer)
    reader.next()
    reader.circ_id_bytes = 4
    while (cell := reader.next()) is not None and cell.command != Command.AUTH_CHALLENGE:
        pass
    return answer[: len(answer) - len(reader.rest())]


def facts(answer: bytes, certs: bytes) -> AuthFacts:
    return AuthFacts(
        initiator_rsa_sha256=rsa_sha256(CLIENT),
        responder_rsa_sha256=rsa_sha256(RELAY),
        initiator_ed25519=ed25519(CLIENT),
        responder_ed25519=ed25519(RELAY),
        responder_log=hashlib.sha256(logged(answer)).digest(),
        initiator_log=hashlib.sha256(VERSIONS + certs).digest(),
        tls_certificate_sha256=hashlib.sha256(link_certificate().certificate_der).digest(),
        tls_binding=export(EXPORTER_LABEL, rsa_sha256(CLIENT), 32),
    )


def begin(secrets: AuthSecrets | None) -> tuple[ResponderHandshake, bytes, AuthFacts]:
    """A responder that got VERSIONS; the CERTS cell to send next, and what to sign."""
    server = responder(relay_keys(RELAY), tls_secrets=secrets)
    answer = server.receive(VERSIONS)
    payload = initiator_certs(relay_keys(CLIENT), AUTH_KEY.public_key().public_bytes_raw(), NOW_UTC_S)
    certs = encode_cell(Cell(0, Command.CERTS, payload)) + encode_cell(
        Cell(0, Command.VPADDING, b"logged too")
    )
    return server, certs, facts(answer, certs)


def authenticate(proof: AuthFacts, key: Ed25519PrivateKey = AUTH_KEY) -> bytes:
    return encode_cell(Cell(0, Command.AUTHENTICATE, encode_authenticate(proof, b"r" * 24, key.sign)))


def test_an_initiator_that_authenticates_is_known() -> None:
    server, certs, proof = begin(AuthSecrets(export))
    server.receive(certs + authenticate(proof) + NETINFO)
    assert server.open is not None
    assert server.open.identity == relay_keys(CLIENT).identity


def test_without_access_to_tls_secrets_it_stays_unknown() -> None:
    server, certs, proof = begin(None)
    server.receive(certs + authenticate(proof) + NETINFO)
    assert server.open is not None
    assert server.open.identity is None


@pytest.mark.parametrize("field", AuthFacts.__dataclass_fields__)
def test_each_fact_is_checked(field: str) -> None:
    server, certs, proof = begin(AuthSecrets(export))
    with pytest.raises(LinkError, match="made for another link, or for other identities"):
        server.receive(certs + authenticate(replace(proof, **{field: bytes(32)})))


def test_another_key_cannot_sign() -> None:
    server, certs, proof = begin(AuthSecrets(export))
    with pytest.raises(LinkError, match="AUTHENTICATE cell: the signature is wrong"):
        server.receive(certs + authenticate(proof, Ed25519PrivateKey.generate()))


def test_certificates_without_authenticate_do_not_open() -> None:
    server, certs, _ = begin(AuthSecrets(export))
    with pytest.raises(LinkError, match="NETINFO cell, but AUTHENTICATE expected"):
        server.receive(certs + NETINFO)


def test_extra_bytes_before_the_signature_are_ignored() -> None:
    _, _, proof = begin(None)
    payload = encode_authenticate(proof, b"r" * 24 + b"extra", AUTH_KEY.sign)
    verify_authenticate(payload + b"behind", proof, AUTH_KEY.public_key().public_bytes_raw())


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x00\x03\x00", "cut short"),
        (b"\x00\x03\x00\x05abcd", "cut short"),
        (b"\x00\x01\x00\x00", "method 1, 3 expected"),
        (b"\x00\x03\x00\x04abcd", "4 bytes of authentication are too few"),
    ],
)
def test_malformed(payload: bytes, reason: str) -> None:
    server, certs, _ = begin(AuthSecrets(export))
    with pytest.raises(LinkError, match=reason):
        server.receive(certs + encode_cell(Cell(0, Command.AUTHENTICATE, payload)))


def test_flawed_certificates_of_the_initiator() -> None:
    server, certs, _ = begin(AuthSecrets(export))
    damaged = bytearray(certs)
    damaged[100] ^= 1
    with pytest.raises(LinkError, match="certificate of type 2"):
        server.receive(bytes(damaged))


def test_challenge_codec() -> None:
    assert parse_challenge(encode_challenge(CHALLENGE) + b"more") == (CHALLENGE, (3,))
    assert parse_challenge(bytes(34)) == (bytes(32), ())


def test_the_signature_covers_the_random_value() -> None:
    _, _, proof = begin(None)
    payload = bytearray(encode_authenticate(proof, b"r" * 24, AUTH_KEY.sign))
    payload[-70] ^= 1
    with pytest.raises(CertError, match="the signature is wrong"):
        verify_authenticate(bytes(payload), proof, AUTH_KEY.public_key().public_bytes_raw())
