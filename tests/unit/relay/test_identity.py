import stat
from pathlib import Path

import pytest
from stem.descriptor.server_descriptor import RelayDescriptor

from flashflow.model.errors import LocalError
from flashflow.model.ids import Address
from flashflow.relay.core.admission import AdmissionRules
from flashflow.relay.identity import DESCRIPTOR_FILE, KEYS_FILE, load_or_make_keys, write_descriptor
from flashflow.relay.settings import RelaySettings
from support.orlink_keys import relay_keys

V4, V6 = Address("127.0.0.1", 9001), Address("::1", 9002)


def settings(folder: Path, **changes) -> RelaySettings:
    return RelaySettings(folder, "relay", (V4,), AdmissionRules(frozenset()), **changes)


def test_keys_are_made_once_and_are_private(tmp_path) -> None:
    folder = tmp_path / "new" / "relay"
    first = load_or_make_keys(folder)
    second = load_or_make_keys(folder)
    assert first.to_json() == second.to_json()
    assert stat.S_IMODE((folder / KEYS_FILE).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [KEYS_FILE]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"version": 9}'])
def test_damaged_keys_are_an_error_that_names_the_file(tmp_path, content) -> None:
    (tmp_path / KEYS_FILE).write_bytes(content)
    with pytest.raises(LocalError, match=KEYS_FILE):
        load_or_make_keys(tmp_path)
    assert (tmp_path / KEYS_FILE).read_bytes() == content


def test_a_folder_that_cannot_be_made(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalError, match="relay keys"):
        load_or_make_keys(tmp_path / "file" / "sub")


@pytest.mark.parametrize(
    ("addresses", "ipv4", "extra"),
    [
        ((V4,), ("127.0.0.1", 9001), []),
        ((V6, V4), ("127.0.0.1", 9001), [("::1", 9002, True)]),
        ((V6,), ("0.0.0.0", 9002), [("::1", 9002, True)]),
    ],
)
def test_the_descriptor_says_where_it_listens(tmp_path, addresses, ipv4, extra) -> None:
    made = settings(tmp_path, bandwidth_avg_bytes=1000)
    path = write_descriptor(made, relay_keys(), addresses, 1_800_000_000.0)
    assert path == tmp_path / DESCRIPTOR_FILE
    descriptor = RelayDescriptor(path.read_bytes(), validate=True)
    assert (descriptor.address, descriptor.or_port) == ipv4
    assert descriptor.or_addresses == extra
    assert (descriptor.average_bandwidth, descriptor.observed_bandwidth) == (1000, 0)
    assert descriptor.fingerprint == relay_keys().identity.rsa_fingerprint.hex().upper()


def test_a_descriptor_that_cannot_be_written(tmp_path) -> None:
    with pytest.raises(LocalError, match="descriptor"):
        write_descriptor(settings(tmp_path / "none"), relay_keys(), (V4,), 0.0)
