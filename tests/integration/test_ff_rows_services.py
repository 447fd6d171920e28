"""The services as processes: what they make at their start, what they refuse, and what they survive."""

import asyncio
import logging
import re
import signal
import socket
import ssl
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from coordinator.app import CoordinatorService, prepare
from flashflow.config.coord import load_coord
from flashflow.ctrl.access import Access
from flashflow.ctrl.client import CtrlClient
from flashflow.demo.child import Child, stop_all
from flashflow.keys.certificates import export_certificate, keygen
from flashflow.model.ids import Address, parse_address
from flashflow.shell.parent import own_command
from support.commands import error_line, flashflow

PATIENCE_S = 30.0


def write_coord(folder: Path, host: str = "127.0.0.1", ctrl_port: int = 0) -> Path:
    """A coordinator's folder with its key."""
    keygen(folder / "keys" / "coord.pem", "coord", datetime.now(UTC))
    config = folder / "coord.conf"
    config.write_text(
        f"[coord]\ndatadir = data\nkeydir = keys\nlisten_addr = {Address(host, 0)}\nctrl_addr = {Address(host, ctrl_port)}\n"
        "[directory]\nconsensus = missing-consensus\n"
    )
    return config


def write_measurer(folder: Path) -> Path:
    """A measurer's folder with its key and a coordinator's certificate; nobody listens at its address."""
    keygen(folder / "coord.pem", "coord", datetime.now(UTC))
    keygen(folder / "data" / "keys" / "measurer.pem", "m1", datetime.now(UTC))
    export_certificate(folder / "coord.pem", folder / "data" / "keys" / "coord.pem")
    config = folder / "measurer.conf"
    config.write_text("[measurer]\ndatadir = data\ncoord_addr = 127.0.0.1:1\nworkers = 1\n")
    return config


@contextmanager
def running(program: str, config: Path) -> Iterator[Child]:
    """The service, ready."""
    child = Child(program, own_command(program, "--config", str(config)), config.parent)
    try:
        yield child
    finally:
        stop_all([child], 3)


def modes(folder: Path, names: tuple[str, ...]) -> list[int]:
    return [stat.S_IMODE((folder / name).stat().st_mode) for name in names]


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Child]]:
    """A coordinator that logs warnings, and its folder."""
    config = write_coord(tmp_path_factory.mktemp("coord"))
    config.write_text(config.read_text() + "[log]\nlevel = WARNING\n")
    with running("coord", config) as child:
        yield config.parent, child


def test_a_coordinators_directories_are_its_own(coordinator: tuple[Path, Child]) -> None:
    folder, child = coordinator
    assert sorted(word.split("=")[0] for word in child.wait_ready()) == ["ctrl", "measurers"]
    assert modes(folder, ("data", "data/results", "data/tor")) == [0o700] * 3


def test_the_log_goes_to_stderr_with_time_and_level_from_the_level_that_is_set(
    coordinator: tuple[Path, Child],
) -> None:
    _, child = coordinator
    child.wait_ready()
    until(lambda: "missing-consensus" in child.tail(1000))
    pattern = re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (WARNING|ERROR) ")
    assert all(pattern.match(line) for line in child.tail(1000).splitlines())


SIGNALLED = """
import asyncio, sys
from flashflow.shell.signals import StopSignals
async def serve():
    signals = StopSignals(lambda: print("draining", file=sys.stderr, flush=True))
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(serve())
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_drains_and_the_second_ends_the_process(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    child = Child("signalled", [sys.executable, "-c", SIGNALLED], tmp_path)
    try:
        child.wait_ready()
        child.signal(number)
        until(lambda: "draining" in child.tail())
        assert child.alive
        child.signal(number)
        assert child.wait(PATIENCE_S)
        assert child.returncode == status
    finally:
        stop_all([child], 0)


def test_a_measurer_has_no_results_directory(tmp_path: Path) -> None:
    with running("measurer", write_measurer(tmp_path)) as child:
        child.wait_ready()
        assert modes(tmp_path, ("data/tor",)) == [0o700]
        assert not (tmp_path / "data" / "results").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_without_its_ports_nothing_else_is_started(tmp_path: Path, host: str) -> None:
    """Sockets come first: who cannot listen starts no Tor client and does not say that it is ready."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as taken:
        port = taken.getsockname()[1]
        config = write_coord(tmp_path, host, port)
        line = error_line(flashflow("coord", "--config", config), 1)
    assert f"cannot listen for controllers at {Address(host, port)}" in line
    assert list((tmp_path / "data" / "tor").iterdir()) == []


@pytest.mark.faults
def test_a_killed_tor_client_is_started_again(tmp_path: Path) -> None:
    with running("coord", write_coord(tmp_path)) as child:
        words = dict(word.split("=", 1) for word in child.wait_ready())
        access = Access(parse_address(words["ctrl"]), tmp_path / "data" / "control_auth_cookie")

        def tor_client() -> str:
            with CtrlClient(access) as client:
                return str(client.request("status")["tor_client"])

        def processes() -> list[psutil.Process]:
            found = psutil.Process(child.pid).children()
            return [process for process in found if "torclient" in process.cmdline()]

        until(lambda: tor_client() == "up")
        (first,) = processes()
        first.send_signal(signal.SIGKILL)
        until(lambda: tor_client() == "down")
        until(lambda: tor_client() == "up")
        (second,) = processes()
        assert second.pid != first.pid
        assert "Traceback" not in child.tail(10_000)


async def test_a_networks_error_goes_on_and_a_bug_ends_the_service(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last-chance handler: TLS and socket errors belong to a connection, everything else is ours."""
    config = load_coord(write_coord(tmp_path))
    loop = asyncio.get_running_loop()
    run = loop.create_task(CoordinatorService(config, prepare(config)[1]).run())
    try:
        while "ready" not in capsys.readouterr().out:  # noqa: ASYNC110 - it is printed
            await asyncio.sleep(0.01)
        with caplog.at_level(logging.DEBUG):
            for error in (ssl.SSLError(1, "bad certificate"), ConnectionResetError(104, "reset")):
                loop.call_exception_handler({"message": "in a transport", "exception": error})
        assert [record.levelno for record in caplog.records if "in a transport" in record.message] == [
            logging.DEBUG,
            logging.DEBUG,
        ]
        await asyncio.sleep(0)
        assert not run.done()
        loop.call_exception_handler({"message": "a bug", "exception": AttributeError("no such handler")})
        with pytest.raises(AttributeError, match="no such handler"):
            await run
    finally:
        run.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
