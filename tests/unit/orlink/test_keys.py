import json
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from flashflow.model.errors import LocalError
from flashflow.orlink.keys import RelayKeys
from support.orlink_keys import DAY_S, NOW_UTC_S, link_certificate, relay_keys


def test_keys_survive_being_stored() -> None:
    keys = relay_keys()
    again = RelayKeys.from_json(keys.to_json())
    assert again.identity == keys.identity
    assert again.ntor_public == keys.ntor_public
    assert again.to_json() == keys.to_json()


def test_generated_keys_differ() -> None:
    assert relay_keys(0).identity != relay_keys(1).identity
    assert len(relay_keys().identity.rsa_fingerprint) == 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 2),
        ("ntor_private", "AAAA"),
        ("rsa_identity", "AAAA"),
        ("ed25519_signing", 7),
        ("tap_onion", None),
    ],
)
def test_something_else_than_keys_is_refused(name: str, value: object) -> None:
    stored = json.loads(relay_keys().to_json())
    with pytest.raises(LocalError, match="relay keys: "):
        RelayKeys.from_json(json.dumps({**stored, name: value}))
    del stored[name]
    with pytest.raises(LocalError, match="relay keys: not what was stored"):
        RelayKeys.from_json(json.dumps(stored))


@pytest.mark.parametrize("text", ["", "[]", "7", "{}", "{"])
def test_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(LocalError, match="relay keys: not what was stored"):
        RelayKeys.from_json(text)


def test_private_keys_stay_out_of_representations() -> None:
    assert repr(relay_keys()) == "RelayKeys()"


def test_the_link_certificate_is_what_ssl_loads(tmp_path: Path) -> None:
    path = tmp_path / "link.pem"
    path.write_text(link_certificate().pem)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
    cert = x509.load_der_x509_certificate(link_certificate().certificate_der)
    assert cert.not_valid_before_utc.timestamp() == NOW_UTC_S - DAY_S
    assert cert.not_valid_after_utc.timestamp() == NOW_UTC_S + DAY_S
