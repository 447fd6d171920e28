"""Known answers: numbers that other implementations of Tor, its specifications and NIST give."""

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from flashflow.orlink import ntor
from flashflow.orlink.certs import CertError, CertType, verify_cross_cert, verify_ed25519_cert
from flashflow.orlink.certs_cell import verify_responder
from flashflow.orlink.relaycrypto import AesCtr

DATA = Path(__file__).parent / "data"

NTOR = {
    "node_id": "69546f6c64596f7541626f75745374616972732e",
    "onion_private": "4820544f4c4420594f5520444f474954204b454550532048415050454e494e47",
    "client_private": "706f6461792069207075742e2e2e2e2e2e2e2e4a454c4c59206f6e2074686973",
    "server_private": "70686520737175697272656c2e2e2e2e2e2e2e2e686173206869732067616d65",
    "onion_public": "ccbc8541904d18af08753eae967874749e6149f873de937f57f8fd903a21c471",
    "client_public": "e65dfdbef8b2635837fe2cebc086a8096eae3213e6830dc407516083d412b078",
    "reply": "390480a14362761d6aec1fea840f6e9e928fb2adb7b25c670be1045e35133a37"
    "1cbdf68b89923e1f85e8e18ee6e805ea333fe4849c790ffd2670bd80fec95cc8",
    "keys": "0c62dee7f48893370d0ef896758d35729867beef1a5121df80e00f79ed349af39b51cae1"
    "25719182f19d932a667dae1afbf2e336e6910e7822223e763afad0a13342157969dc6b79",
}
"""The handshake that tor's and arti's tests share."""


def test_ntor() -> None:
    known = {name: bytes.fromhex(value) for name, value in NTOR.items()}
    state, onionskin = ntor.client_begin(known["node_id"], known["onion_public"], known["client_private"])
    assert onionskin == known["node_id"] + known["onion_public"] + known["client_public"]
    reply, server = ntor.server_reply(
        known["node_id"], known["onion_private"], onionskin, known["server_private"]
    )
    assert reply == known["reply"]
    client = ntor.client_finish(state, known["reply"])
    for keys in (client, server):
        assert keys.df + keys.db + keys.kf + keys.kb == known["keys"]


# tor's key expansion (tor-spec 5.2.2) of three inputs, as its own tests give them, cut to our 92 bytes. Its first step,
# HMAC-SHA256 under t_key, makes KEY_SEED of them.
EXPANSIONS = [
    (
        b"",
        "d3490ed48b12a48f9547861583573fe3f19aafe3f81dc7fc75eeed96d741b3290f941576c1f9f0b2d463d1ec7ab2c6bf71cd"
        "d7f826c6298c00dbfe6711635d7005f0269493edf6046cc7e7dcf6abe0d20c77cf363e8ffe358927817a3d3e73712cee28d8",
    ),
    (
        b"Tor",
        "5521492a85139a8d9107a2d5c0d9c91610d0f95989975ebee6c02a4f8d622a6cfdf9b7c7edd3832e2760ded1eac309b76f8d"
        "66c4a3c4d6225429b3a016e3c3d45911152fc87bc2de9630c3961be9fdb9f93197ea8e5977180801926d3321fa21513e59ac",
    ),
    (
        b"AN ALARMING ITEM TO FIND ON YOUR CREDIT-RATING STATEMENT",
        "a2aa9b50da7e481d30463adb8f233ff06e9571a0ca6ab6df0fb206fa34e5bc78d063fc291501beec53b36e5a0e434561200c"
        "5f8bd13e0f88b3459600b4dc21d69363e2895321c06184879d94b18f078411be70b767c7fc40679a9440a0c95ea83a23efbf",
    ),
]


@pytest.mark.parametrize(("secret", "expected"), EXPANSIONS)
def test_key_expansion(secret: bytes, expected: str) -> None:
    seed = hmac.digest(b"ntor-curve25519-sha256-1:key_extract", secret, "sha256")
    keys = ntor.expand_keys(seed)
    assert keys.df + keys.db + keys.kf + keys.kb + keys.kh == bytes.fromhex(expected)[:92]


def test_aes_128_ctr() -> None:
    """NIST SP 800-38A, F.5.1: its initial counter is a position in our keystream."""
    counter = int("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", 16)
    cipher = AesCtr(bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c"), counter * 16)
    plain = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    assert cipher.crypt(bytes.fromhex(plain)).hex() == (
        "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
    )


# Certificates out of a CERTS cell of a private network, as arti's tests give them.
CERT_UTC_S = 1_601_000_000
SIGNING_KEY = "f82294b866a31f01fc5d0da8572850a9b929545c3266558d7d2316e3b74172b0"
IDENTITY_KEY = "dcb604db2034b00fd16986d4adb9d16b21cb4e4457a33dec0f538903683e96e9"
TLS_SHA256 = "b4fd606b64e4cbd466b8d76cb131069bae6f3aa1878857c9f624e31d77a799b8"
CERT_4 = (
    f"01040006cc2a01{SIGNING_KEY}0100200400{IDENTITY_KEY}"
    "ff1a5203fa27f86ef7528d89a0845d2520166e340754ffea2aae0f612b7ce5da"
    "094a0236cdac45034b0b6842c18e7f6b51b93a3cf7e60663b8ad061c30a62602"
)
CERT_5 = (
    f"01050006c98a03{TLS_SHA256}00"
    "7173e5f8068431d0d3f5ee16b4c9ffd59df373e152a87281bae744aa5fcf7217"
    "1bf4b27c4e8fc1c6a9fc5ca11058bc49647063d7903cfd9f512f89099b27bc0c"
)
CERT_7 = (
    f"{IDENTITY_KEY}0006da3a80"
    "5cf6006f9179066534de6b45ad47a5c469063ee462762723396dc9f25452a0a5"
    "2da3f5087dd239f2a311f6b0d4dfeff4abd089dc3d0237a0abab19eb2045b91c"
    "dcaf04be0a72d548a27bf2e77bd876ecfe5e1be622350da6bf31f6e306ed8964"
    "88dd5b39409b23fc3eb7b2c9f7328eb18da36d54d80575899ea6507ccbfcdf1f"
)
RSA_MODULUS = (
    "d38b1e6ceb946e0db0751f4cbace3dcb9688b6c25304227b4710c35afb73627e50500f5913e158b621802612d1c75827"
    "003703338375237552eb3cd3c12f6ab3604e60c1a2d26bb1fbad206ff023969a90909d6a65a5458a5312c26ebd3a3dad"
    "30302d4515cdcd264146ac18e6fc60a04bd3ec327f04294d96ba5aa25b464c3f"
)


def test_ed25519_certificates() -> None:
    signing = verify_ed25519_cert(bytes.fromhex(CERT_4), CertType.SIGNING, None, CERT_UTC_S)
    assert (signing.key.hex(), signing.expires_utc_s) == (SIGNING_KEY, 0x6CC2A * 3600)
    assert signing.signed_with == bytes.fromhex(IDENTITY_KEY)
    link = verify_ed25519_cert(bytes.fromhex(CERT_5), CertType.LINK, signing.key, CERT_UTC_S)
    assert (link.key.hex(), link.key_type) == (TLS_SHA256, 3)


def test_cross_certificate() -> None:
    key = rsa.RSAPublicNumbers(65_537, int(RSA_MODULUS, 16)).public_key()
    assert verify_cross_cert(bytes.fromhex(CERT_7), key, CERT_UTC_S).hex() == IDENTITY_KEY
    other = rsa.RSAPublicNumbers(65_537, int(RSA_MODULUS, 16) - 2).public_key()
    with pytest.raises(CertError, match="the signature is wrong"):
        verify_cross_cert(bytes.fromhex(CERT_7), other, CERT_UTC_S)


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((DATA / "tor_0_4_9_certs.json").read_text())
    for name in ("certs_cell", "tls_certificate"):
        stored[name] = base64.b64decode("".join(stored[name]))
    return stored


def test_a_certs_cell_of_tor(recorded: dict[str, Any]) -> None:
    verified = verify_responder(recorded["certs_cell"], recorded["tls_certificate"], recorded["utc_s"])
    assert verified.identity.rsa_fingerprint.hex() == recorded["rsa_fingerprint"]
    assert verified.identity.ed25519 is not None
    assert verified.identity.ed25519.hex() == recorded["ed25519"]


def test_each_byte_of_its_certificates_counts(recorded: dict[str, Any]) -> None:
    """Type 1 comes first and is not needed; a change anywhere behind it is found, in lengths and types too."""
    cell: bytes = recorded["certs_cell"]
    first = 1 + 3 + int.from_bytes(cell[2:4], "big")
    for at in range(first, len(cell), 3):
        changed = cell[:at] + bytes((cell[at] ^ 0x10,)) + cell[at + 1 :]
        with pytest.raises(CertError):
            verify_responder(changed, recorded["tls_certificate"], recorded["utc_s"])
