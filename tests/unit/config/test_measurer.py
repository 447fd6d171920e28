"""A measurer's configuration."""

import os
from pathlib import Path

import pytest

from flashflow.config.measurer import MeasurerConfig, load_measurer
from flashflow.model.errors import UsageError
from flashflow.model.ids import Address


def load(folder: Path, text: str) -> MeasurerConfig:
    path = folder / "measurer.conf"
    path.write_text(text)
    return load_measurer(path)


def test_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, "")
    assert config.key == tmp_path / "data-meas/keys/measurer.pem"
    assert config.coord_cert == tmp_path / "data-meas/keys/coord.pem"
    assert config.tor_datadir == tmp_path / "data-meas/tor"
    assert config.coord_addr == Address("localhost", 12934)
    assert config.max_rate_bytes == 125_000_000
    assert config.workers == os.cpu_count()
    assert config.bucket_cells == 125
    assert (config.far_end_addr, config.far_end_identities) == (None, 4)
    assert config.allowed_networks.allows("8.8.8.8")
    assert not config.allowed_networks.allows("127.0.0.1")


def test_values(tmp_path: Path) -> None:
    text = (
        "[measurer]\nmax_rate = 0.5\nworkers = 3\nallowed_networks = 127.0.0.0/8, ::1\ncoord_addr = [::1]:9\n"
    )
    config = load(tmp_path, text)
    assert (config.max_rate_bytes, config.workers) == (62_500, 3)
    assert config.coord_addr == Address("::1", 9)
    assert config.allowed_networks.allows("127.3.2.1")
    assert config.allowed_networks.allows("::1")
    assert not config.allowed_networks.allows("8.8.8.8")


@pytest.mark.parametrize(
    ("text", "expected"), [("192.0.2.1", "192.0.2.1"), ("2001:DB8::1", "2001:db8::1"), ("[::1]", "::1")]
)
def test_the_far_ends_address(tmp_path: Path, text: str, expected: str) -> None:
    config = load(tmp_path, f"[measurer]\nfar_end_addr = {text}\nfar_end_identities = 0\n")
    assert (config.far_end_addr, config.far_end_identities) == (expected, 0)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("max_rate", "0", "expected Mbit/s, 0.1 to 1000000, got '0'"),
        ("max_rate", "inf", "expected Mbit/s, 0.1 to 1000000, got 'inf'"),
        ("max_rate", "nan", "expected Mbit/s, 0.1 to 1000000, got 'nan'"),
        ("max_rate", "1 Gbit", "expected Mbit/s, 0.1 to 1000000, got '1 Gbit'"),
        ("workers", "-1", "expected 0 to 256, got '-1'"),
        ("workers", "two", "expected 0 to 256, got 'two'"),
        ("allowed_networks", "", "expected `public` or networks such as"),
        ("allowed_networks", "127.0.0.1/8", "has host bits set"),
        ("allowed_networks", "everywhere", "expected `public` or networks such as"),
        ("coord_addr", "localhost", "expected host:port or [IPv6]:port, got 'localhost'"),
        ("bucket_cells", "-1", "expected cells, 1 to 100000, got '-1'"),
        ("far_end_addr", "far.example", "expected an IP address of this host, or nothing, got 'far.example'"),
        ("far_end_addr", "::", "(relays cannot connect to it)"),
        ("far_end_identities", "17", "expected 0 to 16, got '17'"),
    ],
)
def test_bad_value(tmp_path: Path, key: str, value: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, f"[measurer]\n{key} = {value}\n")
    assert caught.value.reason.startswith(f"{tmp_path}/measurer.conf: [measurer] {key}: ")
    assert expected in caught.value.reason
    assert "\n" not in caught.value.reason


def test_a_coordinators_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown section \[coord\]"):
        load(tmp_path, "[coord]\nlisten_addr = [::1]:9\n")
