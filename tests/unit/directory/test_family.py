"""Family certificates in server descriptors: which keys count."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flashflow.directory.entries import read_descriptor
from flashflow.directory.family import FAMILY_CERT, family_keys
from flashflow.orlink.certs import KeyType, build_ed25519_cert
from support.directory_files import PUBLISHED_UTC_S, descriptor_of, relay_keys

FAMILY, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
FAMILY_KEY, OTHER_KEY = (key.public_key().public_bytes_raw() for key in (FAMILY, OTHER))
RELAY = relay_keys(1).ed25519_identity.public_key().public_bytes_raw()


def cert(signer: Ed25519PrivateKey = FAMILY, **changes: Any) -> bytes:
    fields = {
        "cert_type": FAMILY_CERT,
        "key_type": KeyType.ED25519,
        "key": RELAY,
        "expires_utc_s": PUBLISHED_UTC_S + 86_400,
        "signed_with": signer.public_key().public_bytes_raw(),
        "sign": signer.sign,
    }
    return build_ed25519_cert(**{**fields, **changes})


def block(data: bytes) -> str:
    text = base64.b64encode(data).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["family-cert", "-----BEGIN FAMILY CERT-----", *lines, "-----END FAMILY CERT-----", ""])


def descriptor(*blocks: str) -> bytes:
    return descriptor_of(1).replace("\npublished ", "\n" + "".join(blocks) + "published ").encode()


def test_one_and_several() -> None:
    for blocks, keys in [
        ([], ()),
        ([block(cert())], (FAMILY_KEY,)),
        ([block(cert(OTHER)), block(cert()), block(cert())], tuple(sorted((FAMILY_KEY, OTHER_KEY)))),
    ]:
        found = read_descriptor(descriptor(*blocks))
        assert found is not None
        assert found.family_keys == keys


@pytest.mark.parametrize(
    "changes",
    [
        {"cert_type": 4},
        {"key": bytes(32)},
        {"expires_utc_s": PUBLISHED_UTC_S - 7200},
        {"signed_with": None},
        {"signed_with": OTHER_KEY},
        {"sign": lambda body: bytes(64)},
    ],
)
def test_a_certificate_that_does_not_hold_does_not_count(changes: dict[str, Any]) -> None:
    found = read_descriptor(descriptor(block(cert(**changes)), block(cert(OTHER))))
    assert found is not None
    assert found.family_keys == (OTHER_KEY,)


@pytest.mark.parametrize(
    "broken", [block(b""), block(cert()[:50]), block(cert()).replace("-----END", "----END"), "family-cert\n"]
)
def test_a_broken_block_does_not_count(broken: str) -> None:
    assert family_keys(descriptor(broken), RELAY, PUBLISHED_UTC_S) == ()
    assert family_keys(descriptor(block(cert()), broken), RELAY, PUBLISHED_UTC_S) == (FAMILY_KEY,)


def test_a_relay_of_unknown_identity_has_no_family() -> None:
    assert family_keys(descriptor(block(cert())), None, PUBLISHED_UTC_S) == ()
