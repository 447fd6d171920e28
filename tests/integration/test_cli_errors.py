"""Bad input by command line, files and sockets: one line that says what and where, the right exit status, and a
service that goes on."""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flashflow.ctrl.access import Access
from flashflow.ctrl.client import CtrlClient
from flashflow.demo.child import Child, stop_all
from flashflow.keys.certificates import export_certificate, keygen
from flashflow.model.ids import Address, parse_address
from flashflow.shell.parent import own_command
from flashflow.wire.framing import encode_frame
from support.commands import error_line, flashflow, flashflow_here

HOSTS = ["127.0.0.1", "::1"]


def write_coord(folder: Path, host: str = "127.0.0.1", more: str = "") -> Path:
    """A coordinator's folder with keys; no relay is known to it."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = folder / "data" / "keys"
    if not (keys / "coord.pem").exists():
        keygen(keys / "coord.pem", "coord", datetime.now(UTC))
        keygen(folder / "m1.pem", "m1", datetime.now(UTC))
        export_certificate(folder / "m1.pem", keys / "m1.cert.pem")
    config = folder / "coord.conf"
    address = Address(host, 0)
    config.write_text(
        f"[coord]\ndatadir = data\nlisten_addr = {address}\nctrl_addr = {address}\n{more}"
        "[directory]\nconsensus = missing-consensus\n"
    )
    return config


class Coordinator:
    """A running coordinator without relays and measurers."""

    def __init__(self, folder: Path, host: str) -> None:
        self.config = write_coord(folder, host)
        self.folder = folder
        self.child = Child("coordinator", own_command("coord", "--config", str(self.config)), folder)
        words = dict(word.split("=", 1) for word in self.child.wait_ready())
        self.measurers = parse_address(words["measurers"])
        self.access = Access(parse_address(words["ctrl"]), folder / "data" / "control_auth_cookie")

    @property
    def ctrl_options(self) -> list[str]:
        """What tells `flashflow ctrl` where it is."""
        return ["--addr", str(self.access.address), "--cookie", str(self.access.cookie_file)]

    def goes_on(self) -> bool:
        """Whether it still answers, and never had to print a traceback."""
        with CtrlClient(self.access) as client:
            answered = "version" in client.request("status")
        return answered and self.child.alive and "Traceback" not in self.child.tail(10_000)

    def tls(self, key: Path) -> ssl.SSLSocket:
        """A TLS connection as a measurer that holds `key`; the handshake is done, as far as TLS 1.3 tells a client."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.folder / "data" / "keys" / "coord.pem")
        context.load_cert_chain(key)
        return context.wrap_socket(socket.create_connection(self.measurers, timeout=10))


@pytest.fixture(scope="module", params=HOSTS)
def coordinator(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Coordinator]:
    running = Coordinator(tmp_path_factory.mktemp("coord"), request.param)
    yield running
    stop_all([running.child], 3)


# --- configuration and files: exit status 2 for configuration, 1 for the rest ---


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[coord]\nlisten = 1\n", "[coord] listen: unknown key"),
        ("[coordinator]\n", "unknown section [coordinator]"),
        ("datadir = x\n", "line 1: expected a [section]"),
        ("[coord]\nlisten_addr = nowhere\n", "[coord] listen_addr: expected host:port"),
        ("[meas_params]\nbg_percent = 25\n", "[meas_params] bg_percent: expected a fraction"),
        ("\xff\xfe", "not a configuration file"),
    ],
)
@pytest.mark.parametrize("command", ["coord --config", "config check --kind coord"])
def test_a_broken_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, content: str, said: str
) -> None:
    file = tmp_path / "coord.conf"
    file.write_bytes(content.encode("latin-1"))
    line = error_line(flashflow_here(capsys, *command.split(), file), 2)
    assert str(file) in line
    assert said in line


@pytest.mark.parametrize("command", ["coord", "measurer"])
def test_no_configuration_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    line = error_line(flashflow_here(capsys, command, "--config", tmp_path / "none.conf"), 2)
    assert line.endswith(
        f"{tmp_path}/none.conf: cannot read the configuration file: No such file or directory"
    )


def test_a_missing_key_file(tmp_path: Path) -> None:
    config = write_coord(tmp_path)
    key = tmp_path / "data" / "keys" / "coord.pem"
    key.unlink()
    line = error_line(flashflow("coord", "--config", config), 1)
    assert str(key) in line
    assert "flashflow keygen" in line


@pytest.mark.parametrize(
    "content", ["hello\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_key_file_that_is_none(tmp_path: Path, content: str) -> None:
    config = write_coord(tmp_path)
    key = tmp_path / "data" / "keys" / "coord.pem"
    key.write_text(content)
    assert str(key) in error_line(flashflow("coord", "--config", config), 1)


def test_a_foreign_key_beside_our_certificate(tmp_path: Path) -> None:
    config = write_coord(tmp_path)
    key = tmp_path / "data" / "keys" / "coord.pem"
    theirs = (tmp_path / "m1.pem").read_text().partition("-----BEGIN CERTIFICATE-----")[0]
    ours = key.read_text().partition("-----BEGIN CERTIFICATE-----")
    key.write_text(theirs + ours[1] + ours[2])
    line = error_line(flashflow("coord", "--config", config), 1)
    assert "the private key does not belong to the certificate" in line


def test_a_measurer_without_the_coordinators_certificate(tmp_path: Path) -> None:
    keygen(tmp_path / "data" / "keys" / "measurer.pem", "m1", datetime.now(UTC))
    config = tmp_path / "measurer.conf"
    config.write_text("[measurer]\ndatadir = data\n")
    assert str(tmp_path / "data" / "keys" / "coord.pem") in error_line(
        flashflow("measurer", "--config", config), 1
    )


# --- addresses and directories in use ---


@pytest.mark.parametrize("setting", ["listen_addr", "ctrl_addr"])
def test_a_port_in_use(coordinator: Coordinator, tmp_path: Path, setting: str) -> None:
    taken = coordinator.measurers if setting == "listen_addr" else coordinator.access.address
    config = write_coord(tmp_path, taken.host)
    text = config.read_text().replace(f"\n{setting} = {Address(taken.host, 0)}", f"\n{setting} = {taken}")
    config.write_text(text)
    line = error_line(flashflow("coord", "--config", config), 1)
    assert str(taken) in line
    assert "in use" in line
    assert coordinator.goes_on()


def test_a_second_coordinator_on_one_data_directory(coordinator: Coordinator) -> None:
    line = error_line(flashflow("coord", "--config", coordinator.config), 1)
    assert "another coordinator runs on" in line
    assert coordinator.goes_on()


# --- the control socket ---


def test_an_unknown_relay(coordinator: Coordinator) -> None:
    line = error_line(flashflow("ctrl", *coordinator.ctrl_options, "measure", "A" * 40), 1)
    assert line.startswith("flashflow ctrl: no ")
    assert coordinator.goes_on()


def test_measure_without_a_relay(coordinator: Coordinator) -> None:
    line = error_line(flashflow("ctrl", *coordinator.ctrl_options, "measure"), 2)
    assert line == "flashflow ctrl: Missing argument 'RELAY' (see flashflow ctrl measure --help)"


def test_no_coordinator() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    line = error_line(flashflow("ctrl", "--addr", address, "--cookie", "none", "status"), 1)
    assert line == f"flashflow ctrl: no coordinator listens at {address}: is flashflow coord running?"


def test_a_wrong_cookie(coordinator: Coordinator, tmp_path: Path) -> None:
    (tmp_path / "cookie").write_bytes(bytes(32))
    options = ["--addr", str(coordinator.access.address), "--cookie", tmp_path / "cookie"]
    assert "authentication failed" in error_line(flashflow("ctrl", *options, "status"), 1)
    assert coordinator.goes_on()


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"measure\n", "measure needs a relay"),
        (b"measure a b c\n", "measure needs a relay"),
        (b"\xff\xfe status\n", "not UTF-8"),
        (b"fly\n", "unknown command"),
        (b"\n", "empty command"),
        (b"cancel seven\n", "cancel needs a measurement's id"),
        (b"x" * 5000 + b"\n", "line too long"),
    ],
)
def test_a_bad_command_line_is_answered(coordinator: Coordinator, sent: bytes, answered: str) -> None:
    with closing(socket.create_connection(coordinator.access.address, timeout=10)) as sock:
        lines = sock.makefile("rb")
        sock.sendall(b"AUTHENTICATE " + coordinator.access.cookie().hex().encode() + b"\n")
        assert lines.readline() == b"OK {}\n"
        sock.sendall(sent)
        word, _, rest = lines.readline().partition(b" ")
    assert word == b"ERR"
    error = json.loads(rest)["error"]
    assert answered in error
    assert "\n" not in error
    assert coordinator.goes_on()


# --- the measurers' port ---


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x00",  # half a header
        encode_frame(b"x" * 100)[:50],  # half a frame
        (1 << 20).to_bytes(4, "big") + b"{",  # a frame of 1 MB
        encode_frame(b"{}"),
        encode_frame(b'{"type":"launch_missiles"}'),
        encode_frame(b"\xff\xff"),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_measurer_that_sends_nonsense(coordinator: Coordinator, sent: bytes) -> None:
    with closing(coordinator.tls(coordinator.folder / "m1.pem")) as sock:
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
    assert coordinator.goes_on()


def test_no_tls_at_all(coordinator: Coordinator) -> None:
    with closing(socket.create_connection(coordinator.measurers, timeout=10)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while sock.recv(65536):
            pass
    assert coordinator.goes_on()


def test_a_certificate_that_the_coordinator_does_not_know(coordinator: Coordinator, tmp_path: Path) -> None:
    """In TLS 1.3 the client hears of it on its first read only; the measurer explains it, and goes on trying."""
    data = tmp_path / "data"
    keygen(data / "keys" / "measurer.pem", "stranger", datetime.now(UTC))
    export_certificate(coordinator.folder / "data" / "keys" / "coord.pem", data / "keys" / "coord.pem")
    config = tmp_path / "measurer.conf"
    config.write_text(f"[measurer]\ndatadir = data\ncoord_addr = {coordinator.measurers}\nworkers = 1\n")
    measurer = Child("measurer", own_command("measurer", "--config", str(config)), tmp_path)
    try:
        measurer.wait_ready()
        explained = wait_for_line(measurer, "does not know our certificate")
        assert "measurer.pem" in explained
        assert measurer.alive
    finally:
        stop_all([measurer], 3)
    assert coordinator.goes_on()


def wait_for_line(child: Child, text: str) -> str:
    """The first line of its log that has `text`; the test's time-out ends the wait."""
    while True:
        for line in child.tail(10_000).splitlines():
            if text in line:
                return line
        assert child.alive


# --- the demo ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--relays 3 --rates 5,6", "--relays 3, but --rates gives 2: expected a rate for each relay"),
        ("--rates fast", "--rates 'fast': expected Mbit/s between commas"),
        ("--relays none", "Invalid value for '--relays'"),
        ("--duration 0", "--duration 0: expected 1 to 600 seconds"),
        ("--colour", "No such option: --colour"),
        ("--relays 1 --out /dev/null/x", "--out /dev/null/x: cannot make this folder: Not a directory"),
    ],
)
def test_wrong_options_of_the_demo(capsys: pytest.CaptureFixture[str], words: str, said: str) -> None:
    assert f"flashflow demo: {said}" in error_line(flashflow_here(capsys, "demo", *words.split()), 2)


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such command: 'measure'" in error_line(flashflow_here(capsys, "measure"), 2)
