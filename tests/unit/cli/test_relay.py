from hashlib import sha256

import pytest

from flashflow.cli.relay import check_nickname, parse_coordinator, parse_listen, ready_line
from flashflow.model.errors import UsageError
from flashflow.model.ids import Address
from flashflow.orlink.keys import pem
from support.orlink_keys import link_certificate


def test_the_ready_line() -> None:
    addresses = (Address("127.0.0.1", 5), Address("::1", 6))
    assert ready_line(addresses, bytes(20)) == f"ready 127.0.0.1:5,[::1]:6 {'00' * 20}"


def test_a_coordinator_is_a_file_or_a_digest(tmp_path) -> None:
    der = link_certificate().certificate_der
    path = tmp_path / "coord.cert.pem"
    path.write_text(pem("CERTIFICATE", der))
    assert parse_coordinator(str(path)) == sha256(der).digest()
    assert parse_coordinator(sha256(der).hexdigest().upper()) == sha256(der).digest()


def test_what_is_no_coordinator(tmp_path) -> None:
    (tmp_path / "junk").write_bytes(b"\xff\xfe")
    for text, said in (
        (str(tmp_path / "junk"), "not a PEM certificate"),
        ("ab" * 31, "No such file"),
    ):
        with pytest.raises(UsageError, match=said):
            parse_coordinator(text)


@pytest.mark.parametrize("text", ["localhost:1", "[::1", "::1:5", "1.2.3:4", "127.0.0.1:70000"])
def test_listening_is_on_ip_addresses(text) -> None:
    with pytest.raises(UsageError):
        parse_listen(text)


def test_listen_addresses() -> None:
    assert parse_listen("[::1]:0") == Address("::1", 0)
    assert parse_listen("0.0.0.0:9001") == Address("0.0.0.0", 9001)


@pytest.mark.parametrize("name", ["", "a b", "ü", "x" * 20, "a\n"])
def test_nicknames_are_those_that_tor_takes(name) -> None:
    with pytest.raises(UsageError):
        check_nickname(name)
    assert check_nickname("x" * 19) == "x" * 19
