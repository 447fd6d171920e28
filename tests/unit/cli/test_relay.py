import socket
from hashlib import sha256

import pytest

from flashflow.cli import main
from flashflow.cli.relay import check_nickname, parse_coordinator, parse_listen, ready_line
from flashflow.model.errors import UsageError
from flashflow.model.ids import Address
from flashflow.orlink.keys import pem
from flashflow.relay.identity import KEYS_FILE
from support.orlink_keys import link_certificate, relay_keys


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


def start(tmp_path, *options: str) -> int:
    """The exit status of a relay that cannot start."""
    own = ["relay", "--data-dir", str(tmp_path), "--nickname", "relay", "--listen", "127.0.0.1:0"]
    return main([*own, *options])


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--nickname", "no spaces"], 2, "1 to 19 letters and digits expected"),
        (["--listen", "127.0.0.1"], 2, "not an address"),
        (["--listen", "localhost:0"], 2, "an IP address expected, not a name"),
        (["--listen", "192.0.2.1:0"], 1, "cannot listen on 192.0.2.1:0: "),
        (["--rate-mbps", "0"], 2, "--rate-mbps 0: 0.1 to 1e+06 expected"),
        (["--rate-mbps", "nan"], 2, "--rate-mbps nan: "),
        (["--max-duration-s", "601"], 2, "--max-duration-s 601: 1 to 600 expected"),
        (["--coordinator", "/nonexistent"], 2, "No such file"),
        (["--coordinator", "/dev/null"], 2, "not a PEM certificate"),
        (["--counts", "/nonexistent/counts"], 1, "counts file /nonexistent/counts: "),
    ],
)
def test_what_it_cannot_start_with_is_one_line(tmp_path, capsys, options, status, said) -> None:
    (tmp_path / KEYS_FILE).write_text(relay_keys().to_json())
    assert start(tmp_path, *options) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("flashflow relay: ")
    assert said in err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--no-such"], "No such option"),
        (["--max-per-period", "x"], "Invalid value for '--max-per-period'"),
        (["superfluous"], "unexpected extra argument"),
    ],
)
def test_what_it_does_not_take_is_one_line(tmp_path, capsys, options, said) -> None:
    assert start(tmp_path, *options) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("flashflow relay: ")
    assert said in err
    assert err.endswith("(see flashflow relay --help)\n")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_in_use_is_one_line(tmp_path, capsys, host) -> None:
    (tmp_path / KEYS_FILE).write_text(relay_keys().to_json())
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        address = Address(host, taken.getsockname()[1])
        assert start(tmp_path, "--listen", str(address)) == 1
    assert capsys.readouterr().err == f"flashflow relay: cannot listen on {address}: Address already in use\n"


def test_damaged_keys_are_one_line(tmp_path, capsys) -> None:
    (tmp_path / KEYS_FILE).write_text("{}")
    assert start(tmp_path) == 1
    assert f"{tmp_path / KEYS_FILE}: relay keys: not what was stored" in capsys.readouterr().err
