"""stem, unmodified, against a real `flashflow torclient` process; and what the process does when it loses a side."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

import psutil
import pytest
import stem
import stem.connection
import stem.control
import stem.socket

from flashflow.model.errors import LocalError
from flashflow.model.ids import Fingerprint, MeasId
from flashflow.shell.parent import child_environment, own_command
from flashflow.shell.tordriver import TorDriver
from flashflow.torctl.commands import MeasrStart, Stop
from flashflow.torctl.events import BwReport, CircEvent, MeasEnd
from flashflow.torctl.stem_events import FFMeasEvent, register
from support.echo_peer import EchoPeer
from support.processes import has_ended
from support.torclient_process import PATIENCE_S, TorClient


@pytest.fixture(scope="module")
def torclient(tmp_path_factory):
    """The data directory of a running process that the tests share."""
    folder = tmp_path_factory.mktemp("torclient")
    process = launch(folder)
    yield folder
    process.terminate()
    assert process.wait(PATIENCE_S) == 143


def launch(folder, *options):
    argv = own_command("torclient", "--data-dir", str(folder), "--workers", "1", *options)
    process = subprocess.Popen(argv, env=child_environment(), stderr=subprocess.PIPE)
    wait_for(lambda: (folder / "control").exists() or process.poll() is not None)
    return process


def wait_for(true):
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def connect(folder):
    return stem.control.Controller(stem.socket.ControlSocketFile(str(folder / "control")))


def raw(folder, data):
    """What the control port answers to bytes until it closes or is silent."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(2)
        sock.connect(str(folder / "control"))
        sock.sendall(data)
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while piece := sock.recv(4096):
                answer += piece
        return answer


def test_stem_authenticates_and_asks(torclient):
    with connect(torclient) as controller:
        controller.authenticate()
        assert controller.is_authenticated()
        assert str(controller.get_version()) == "0.4.8.1-flashflow"
        assert int(controller.get_info("process/pid")) == controller.get_pid()
        assert controller.get_info("nothing/known", "default") == "default"
        assert controller.get_conf("SocksPort", "default") == "default"
        assert controller.get_conf("__OwningControllerProcess", "default") == "default"
        with pytest.raises(stem.InvalidArguments):
            controller.get_info("nothing/known")
        protocolinfo = controller.get_protocolinfo()
        assert protocolinfo.cookie_path == str(torclient / "control_auth_cookie")


def test_stem_hears_our_events(torclient, tmp_path):
    register()
    heard, ended = [], threading.Event()

    def listen(event):
        heard.append(event)
        if event.type == "FF_MEAS" and event.ffmeas_type == "END":
            ended.set()

    with EchoPeer(tmp_path / "link.pem") as peer, connect(torclient) as controller:
        controller.authenticate()
        controller.add_event_listener(listen, "FF_MEAS", "CIRC")
        command = MeasrStart(
            MeasId(5), Fingerprint(peer.fingerprint), 2, 1, token=bytes(16), target=peer.target
        )
        reply = controller.msg(command.line())
        assert reply.is_ok()
        assert str(reply).startswith("FF_MEAS 5 LAUNCHED CIRCS=")
        wait_for(lambda: sum(getattr(event, "status", "") == "BUILT" for event in heard) == 2)
        assert controller.msg(Stop(MeasId(5)).line()).is_ok()
        assert ended.wait(PATIENCE_S)
    assert isinstance(heard[-1], FFMeasEvent)
    assert (heard[-1].meas_id, heard[-1].success, heard[-1].reason) == ("5", "0", "STOPPED")


def test_stem_with_a_wrong_cookie_is_refused(torclient, tmp_path):
    (tmp_path / "cookie").write_bytes(bytes(32))
    with connect(torclient) as controller, pytest.raises(stem.connection.AuthenticationFailure):
        stem.connection.authenticate_cookie(controller, str(tmp_path / "cookie"))


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"GETINFO version\r\n", b"514 "),
        (b"\x16\x03\x01\x02\x00\x01\n", b"500 "),
        (b"A" * 6000, b"500 "),
        (b"QUIT\r\n", b"250 closing connection\r\n"),
    ],
)
def test_bad_bytes_end_their_own_connection_only(torclient, data, answer):
    assert raw(torclient, data).startswith(answer)
    with connect(torclient) as controller:
        controller.authenticate()


def test_control_socket_and_cookie_are_private(torclient):
    for name in ("control", "control_auth_cookie"):
        assert (torclient / name).stat().st_mode & 0o077 == 0


def test_second_process_on_the_same_directory(torclient):
    argv = own_command("torclient", "--data-dir", str(torclient))
    done = subprocess.run(argv, env=child_environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "another torclient runs on" in done.stderr


def test_key_file_that_is_none(tmp_path):
    (tmp_path / "key.pem").write_text("nothing")
    argv = own_command("torclient", "--data-dir", str(tmp_path), "--tls-key", str(tmp_path / "key.pem"))
    done = subprocess.run(argv, env=child_environment(), capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "key.pem" in done.stderr


def test_owner_that_goes_takes_the_process_along(tmp_path):
    process = launch(tmp_path)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    with connect(tmp_path) as controller:
        controller.authenticate()
        assert controller.msg("TAKEOWNERSHIP").is_ok()
    assert process.wait(PATIENCE_S) == 0
    wait_for(lambda: all(has_ended(worker) for worker in workers))


def measurement(peer, dur_s=30):
    return MeasrStart(
        MeasId(1), Fingerprint(peer.fingerprint), 2, dur_s, 400_000, token=bytes(16), target=peer.target
    )


async def running(client, peer, dur_s=30):
    """Brings a measurement to where traffic flows."""
    assert (await client.say(measurement(peer, dur_s)))[0]
    for _ in range(2):
        await client.until(lambda event: isinstance(event, CircEvent) and event.status == "BUILT")
    assert (await client.say(MeasrStart(MeasId(1), Fingerprint(peer.fingerprint), 2, dur_s)))[0]
    await client.until(lambda event: isinstance(event, BwReport))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_whole_measurement(tmp_path, host):
    with EchoPeer(tmp_path / "link.pem", host=host) as peer:
        async with TorClient(tmp_path / "data") as client:
            await running(client, peer, dur_s=2)
            end = await client.until(lambda event: isinstance(event, MeasEnd))
            reports = [event for event in client.events if isinstance(event, BwReport)]
            again = await client.say(MeasrStart(MeasId(1), Fingerprint(peer.fingerprint), 2, 2))
    assert end == MeasEnd(1, success=True)
    assert [report.second for report in reports] == [1, 2]
    assert all(0 < report.recv_bytes <= 440_000 for report in reports)
    assert again[:2] == (False, "552")
    assert client.lost == []


async def test_traffic_stops_when_the_control_connection_closes(tmp_path):
    with EchoPeer(tmp_path / "link.pem") as peer:
        async with TorClient(tmp_path / "data") as client:
            await running(client, peer)
            client.driver._drop_controller()
            await asyncio.to_thread(wait_for, lambda: not any(t.is_alive() for t in peer._threads[1:]))


async def test_workers_die_with_a_killed_torclient(tmp_path):
    with EchoPeer(tmp_path / "link.pem") as peer:
        async with TorClient(tmp_path / "data") as client:
            await running(client, peer)
            process = psutil.Process(client.driver._process.pid)
            workers = process.children(recursive=True)
            os.kill(process.pid, signal.SIGKILL)
            await asyncio.to_thread(wait_for, lambda: all(has_ended(worker) for worker in workers))
            await asyncio.to_thread(wait_for, lambda: client.lost)
            reply = await client.driver.command("GETINFO version")
    assert not reply.ok
    assert len(client.lost) == 1


async def test_worker_that_dies_fails_its_measurement_and_is_replaced(tmp_path):
    with EchoPeer(tmp_path / "link.pem") as peer:
        async with TorClient(tmp_path / "data") as client:
            await running(client, peer)
            for worker in psutil.Process(client.driver._process.pid).children(recursive=True):
                os.kill(worker.pid, signal.SIGKILL)
            end = await client.until(lambda event: isinstance(event, MeasEnd))
            assert end == MeasEnd(1, success=False, reason="WORKER_LOST")
            await running(client, peer, dur_s=1)  # whether its successor is there yet or not
            assert (await client.until(lambda event: isinstance(event, MeasEnd))).success


async def test_command_that_is_not_answered_in_time_costs_the_controller_only(tmp_path):
    async with TorClient(tmp_path / "data") as client:
        pid = client.driver._process.pid
        os.kill(pid, signal.SIGSTOP)
        late = asyncio.create_task(client.driver.command("GETINFO version", 0.2))
        behind = asyncio.create_task(client.driver.command("GETINFO version", PATIENCE_S))
        await asyncio.sleep(0.5)
        assert client.replaced == [], "not before there is another one"
        os.kill(pid, signal.SIGCONT)
        reply = await late
        assert not reply.ok
        assert "0.2 s" in reply.text
        waited = await behind
        assert not waited.ok
        assert "was replaced" in waited.text
        assert client.replaced == [reply.text], "what was begun on the old one has ended"
        assert (await client.driver.command("GETINFO version", PATIENCE_S)).ok
    assert client.lost == []


async def test_a_command_that_is_cancelled_by_us_stays_cancelled(tmp_path):
    async with TorClient(tmp_path / "data") as client:
        pid = client.driver._process.pid
        os.kill(pid, signal.SIGSTOP)
        asked = asyncio.create_task(client.driver.command("GETINFO version", PATIENCE_S))
        await asyncio.sleep(0.1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        os.kill(pid, signal.SIGCONT)


def driver(path):
    return TorDriver(control_socket=path, on_event=lambda event: None, on_lost=lambda reason: None)


async def test_program_that_does_not_exist(tmp_path):
    with pytest.raises(LocalError, match="cannot start the Tor client"):
        await driver(tmp_path / "control").start(["/nonexistent/tor"], {})


async def test_program_that_ends_at_once(tmp_path):
    with pytest.raises(LocalError, match="ended while it started"):
        await driver(tmp_path / "control").start(["/bin/false"], {})
