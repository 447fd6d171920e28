import hashlib
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
import stem.descriptor

from flashflow.model.errors import LocalError
from flashflow.model.ids import Address, Fingerprint
from flashflow.relay.core.admission import AdmissionRules
from flashflow.relay.identity import describe
from flashflow.relay.settings import RelaySettings
from flashflow.testnet.consensus import assemble
from support.orlink_keys import relay_keys

NOW = datetime(2026, 7, 1, 12, 30, 15, tzinfo=UTC)
V4, V6 = Address("127.0.0.1", 9001), Address("::1", 9002)


def descriptor(number: int, *addresses: Address) -> str:
    settings = RelaySettings(Path(), f"relay{number}", addresses, AdmissionRules(frozenset()))
    return describe(settings, relay_keys(number), addresses, NOW.timestamp())


def fingerprint(number: int) -> Fingerprint:
    return Fingerprint(relay_keys(number).identity.rsa_fingerprint.hex().upper())


def parse(text: str, **how):
    kind = "network-status-consensus-3 1.0"
    return list(stem.descriptor.parse_file(io.BytesIO(text.encode()), kind, validate=True, **how))


def test_stem_reads_it() -> None:
    descriptors = [descriptor(0, V4), descriptor(1, V4, V6), descriptor(2, V6)]
    text = assemble(descriptors, {fingerprint(0): 1234}, NOW)
    [document] = parse(text, document_handler="DOCUMENT")
    assert document.valid_after == NOW.replace(tzinfo=None)
    assert not document.is_microdescriptor
    assert [entry.fingerprint for entry in parse(text)] == sorted(fingerprint(number) for number in range(3))
    assert document.get_unrecognized_lines() == []


def test_entries_say_what_the_descriptors_say() -> None:
    texts = [descriptor(0, V4), descriptor(1, V4, V6), descriptor(2, V6)]
    entries = {entry.fingerprint: entry for entry in parse(assemble(texts, {fingerprint(0): 1234}, NOW))}
    first, second, third = (entries[fingerprint(number)] for number in range(3))
    assert (first.nickname, first.address, first.or_port) == ("relay0", "127.0.0.1", 9001)
    assert (first.bandwidth, first.is_unmeasured) == (1234, False)
    assert (second.bandwidth, second.is_unmeasured) == (1, True)
    assert second.or_addresses == [("::1", 9002, True)]
    assert (third.address, third.or_addresses) == ("0.0.0.0", [("::1", 9002, True)])
    signed = texts[0][: texts[0].index("-----BEGIN SIGNATURE")]
    assert first.digest == hashlib.sha1(signed.encode()).hexdigest().upper()
    assert "Running" in first.flags


def test_its_signature_is_over_what_dir_spec_says() -> None:
    text = assemble([descriptor(0, V4)], {}, NOW)
    [document] = parse(text, document_handler="DOCUMENT")
    [signature] = document.signatures
    assert len(signature.identity) == len(signature.key_digest) == 40
    assert text.count("directory-signature ") == 1
    assert text.endswith("-----END SIGNATURE-----\n")


def test_a_broken_descriptor_is_an_error_of_ours() -> None:
    with pytest.raises(LocalError, match="server descriptor: "):
        assemble(["router nobody\n"], {}, NOW)


def test_no_relays() -> None:
    assert parse(assemble([], {}, NOW)) == []
