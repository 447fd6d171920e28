"""Key and certificate files: made once, checked when read, one name each."""

import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from flashflow.keys import (
    OwnIdentity,
    check_name,
    fingerprint_sha256,
    keygen,
    load_certificate,
    load_own,
    load_peer_certs,
)
from flashflow.keys.certificates import certificate_path, export_certificate
from flashflow.model.errors import LocalError, UsageError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def made(folder: Path, name: str, *, file: str | None = None) -> Path:
    path = folder / (file or f"{name}.pem")
    keygen(path, name, NOW)
    return path


def own(folder: Path) -> OwnIdentity:
    return load_own(made(folder, "coord"), NOW)


def test_keygen_writes_a_private_file_that_is_valid_since_two_days(tmp_path: Path) -> None:
    path = made(tmp_path / "new", "m1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    assert certificate.subject.rfc4514_string() == "O=m1"
    assert certificate.not_valid_before_utc == NOW - timedelta(days=2)
    assert certificate.not_valid_after_utc > NOW + timedelta(days=3640)
    found = load_own(path, NOW)
    assert found.name == "m1"
    assert found.fingerprint == fingerprint_sha256(certificate)


def test_keygen_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = made(tmp_path, "m1")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keygen_never_overwrites(tmp_path: Path) -> None:
    path = made(tmp_path, "m1")
    before = path.read_bytes()
    with pytest.raises(LocalError, match="exists already and is not overwritten"):
        keygen(path, "m1", NOW)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ü", "x" * 65, ".hidden", "a\n"])
def test_names_are_checked(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="not a name"):
        keygen(tmp_path / "x.pem", name, NOW)
    assert not (tmp_path / "x.pem").exists()
    assert check_name("A-Z_a.z9") == "A-Z_a.z9"


def test_the_exported_certificate_has_no_key(tmp_path: Path) -> None:
    path = made(tmp_path, "m1")
    target = certificate_path(path)
    assert target.name == "m1.cert.pem"
    export_certificate(path, target)
    assert b"PRIVATE" not in target.read_bytes()
    assert load_certificate(target).fingerprint == load_own(path, NOW).fingerprint
    with pytest.raises(LocalError, match="no private key"):
        load_own(target, NOW)


def test_own_certificate_is_left_out_however_its_file_is_called(tmp_path: Path) -> None:
    """FF-222: the original compared path names, so that another spelling made the coordinator a measurer."""
    mine = own(tmp_path)
    export_certificate(mine.file, tmp_path / "aaa.pem")
    (tmp_path / "copy.pem").write_bytes(mine.file.read_bytes())
    other = made(tmp_path / "m", "m1")
    export_certificate(other, tmp_path / "m1.cert.pem")
    (tmp_path / "notes.txt").write_text("not a certificate")
    spelled = tmp_path / "m" / ".."
    assert list(load_peer_certs(tmp_path, mine)) == list(load_peer_certs(spelled, mine)) == ["m1"]


def test_no_peers_yet_is_no_error(tmp_path: Path) -> None:
    assert load_peer_certs(tmp_path, own(tmp_path)) == {}


def test_copies_of_a_certificate_count_once_and_another_of_the_same_name_is_refused(tmp_path: Path) -> None:
    mine = own(tmp_path)
    other = made(tmp_path / "m", "m1")
    export_certificate(other, tmp_path / "m1.cert.pem")
    export_certificate(other, tmp_path / "m1-again.pem")
    assert list(load_peer_certs(tmp_path, mine)) == ["m1"]
    export_certificate(made(tmp_path / "n", "m1"), tmp_path / "m1-new.pem")
    with pytest.raises(LocalError, match=r"another certificate for m1, beside m1"):
        load_peer_certs(tmp_path, mine)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no certificate"),
        (b"\xff\x00garbage", "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read"),
        (b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "cannot be read"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    mine = own(tmp_path)
    bad = tmp_path / "bad.pem"
    bad.write_bytes(content)
    for load in (lambda: load_own(bad, NOW), lambda: load_peer_certs(tmp_path, mine)):
        with pytest.raises(LocalError, match=reason) as caught:
            load()
        assert str(bad) in caught.value.reason
        assert "\n" not in caught.value.reason


def test_a_missing_file_says_who_makes_it(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"no such key or certificate file .flashflow keygen"):
        load_own(tmp_path / "none.pem", NOW)
    with pytest.raises(LocalError, match="cannot be read"):
        load_own(tmp_path, NOW)
    with pytest.raises(LocalError, match="cannot list"):
        load_peer_certs(tmp_path / "nowhere", own(tmp_path))


def test_a_foreign_key_is_noticed(tmp_path: Path) -> None:
    first, second = made(tmp_path, "m1").read_text(), made(tmp_path, "m2").read_text()
    mixed = tmp_path / "mixed.pem"
    key_end = first.index("-----BEGIN CERTIFICATE")
    mixed.write_text(first[:key_end] + second[second.index("-----BEGIN CERTIFICATE") :])
    with pytest.raises(LocalError, match="does not belong to the certificate"):
        load_own(mixed, NOW)


def test_an_expired_own_certificate_is_noticed(tmp_path: Path) -> None:
    path = made(tmp_path, "m1")
    with pytest.raises(LocalError, match=r"expired on 2036-.* keygen"):
        load_own(path, NOW + timedelta(days=4000))


def test_a_certificate_without_our_kind_of_name_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path, "m1")
    trust = tmp_path / "authority.pem"
    trust.write_text(ssl.DER_cert_to_PEM_cert(foreign_certificate()))
    with pytest.raises(LocalError, match="no usable name"):
        load_certificate(trust)
    assert load_certificate(path).name == "m1"


def foreign_certificate() -> bytes:
    import trustme

    pem = trustme.CA(organization_name="An authority (with blanks)").cert_pem.bytes().decode("ascii")
    return ssl.PEM_cert_to_DER_cert(pem)
