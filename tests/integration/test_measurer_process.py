"""`flashflow measurer` as a process: joins, refuses what its own file forbids, ends by signals, leaves nothing behind."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from flashflow.cli import main
from flashflow.model.ids import Address
from flashflow.shell.parent import child_environment, own_command
from flashflow.shell.sessions import PeerGone, PeerJoined, PeerMessage
from flashflow.wire import messages as wire
from flashflow.wire.rules import SessionLimits
from support.keyring import Keyring
from support.processes import has_ended, left_of
from support.session_net import Net, running
from support.wire_pair import TOKEN, order

START_S = 60.0


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path, "m1")


def configured(keys: Keyring, addr: Address, **changes: object) -> Path:
    settings: dict[str, object] = {
        "datadir": keys.root / "data",
        "key": keys.key("m1"),
        "coord_cert": keys.coord_cert,
        "coord_addr": addr,
        "max_rate": 8,
        "allowed_networks": "127.0.0.0/8, ::1/128",
        "workers": 1,
    }
    lines = [f"{key} = {value}" for key, value in (settings | changes).items()]
    path = keys.root / "measurer.conf"
    path.write_text("[measurer]\n" + "\n".join(lines) + "\n[log]\nlevel = DEBUG\n")
    return path


class Process:
    """A measurer that prints `ready`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    async def ready(self) -> None:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), START_S)
        assert line == b"ready\n", self.log.read_text()

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    async def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 20.0)


@asynccontextmanager
async def started(config: Path) -> AsyncIterator[Process]:
    log = config.with_suffix(".log")
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *own_command("measurer", "--config", str(config)),
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=file,
        )
    try:
        yield Process(process, log)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def failure_to(net: Net, message: wire.Message, count: int) -> wire.Failure:
    net.server.send("m1", message)
    await net.told.wait_of(PeerMessage, count)
    answer = net.told.of(PeerMessage)[-1].message
    assert isinstance(answer, wire.Failure)
    return answer


@pytest.mark.parametrize(("host", "number"), [("127.0.0.1", signal.SIGTERM), ("::1", signal.SIGINT)])
async def test_it_joins_keeps_its_own_limits_and_ends_by_a_signal(
    keys: Keyring, host: str, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(keys, host, SessionLimits()) as net, started(configured(keys, net.addr)) as measurer:
        await measurer.ready()
        await net.told.wait_of(PeerJoined)
        assert net.told.of(PeerJoined)[0].capacity_bytes == 1_000_000

        again = await asyncio.to_thread(main, ["measurer", "--config", str(keys.root / "measurer.conf")])
        assert again == 1
        assert "another measurer runs on" in capsys.readouterr().err

        nobody = str(Address(host, 9))  # nothing listens on the discard port
        far = await failure_to(net, order(1, relay_addr="192.0.2.7:9001"), 1)
        assert (far.meas_id, far.code) == (1, "TARGET_NOT_ALLOWED")
        fast = await failure_to(net, order(2, rate_bytes=1_000_001, relay_addr=nobody), 2)
        assert (fast.meas_id, fast.code) == (2, "RATE_EXCEEDED")
        unreachable = await failure_to(net, order(3, relay_addr=nobody, rate_bytes=1000), 3)
        assert (unreachable.meas_id, unreachable.code) == (3, "LAUNCH_CIRCS")
        looped = await failure_to(net, order(4, relay_addr=nobody, rate_bytes=1000, mode="loop"), 4)
        assert (looped.meas_id, looped.code) == (4, "LAUNCH_CIRCS")
        assert "far end" not in looped.reason  # it was there: the relay was not

        children = measurer.children()
        assert len(children) >= 2
        assert await measurer.stop(number) == 128 + number
        assert (await net.told.wait_of(PeerGone))[0].reason == "closed by the other side"
        last = net.told.of(PeerMessage)[-1].message
        assert (last.meas_id, last.code) == (None, wire.DRAINING)
        assert all(has_ended(child) for child in children)
        log = measurer.log.read_text()
        assert "Traceback" not in log
        assert TOKEN not in log


@pytest.mark.faults
async def test_nothing_outlives_a_measurer_that_is_killed(keys: Keyring) -> None:
    async with (
        running(keys, "127.0.0.1", SessionLimits()) as net,
        started(configured(keys, net.addr)) as measurer,
    ):
        await measurer.ready()
        await net.told.wait_of(PeerJoined)
        children = measurer.children()
        os.kill(measurer.process.pid, signal.SIGKILL)
        await measurer.process.wait()
        assert not await asyncio.to_thread(left_of, children, 2.0)


@pytest.mark.faults
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_far_end_ends_when_the_coordinator_says_stop_and_when_the_measurer_is_killed(
    keys: Keyring, host: str
) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as silent:  # circuits to it stay under way
        relay = str(Address(host, silent.getsockname()[1]))
        async with (
            running(keys, host, SessionLimits()) as net,
            started(configured(keys, net.addr)) as measurer,
        ):
            await measurer.ready()
            await net.told.wait_of(PeerJoined)
            for number in (1, 2):
                net.server.send("m1", order(number, relay_addr=relay, rate_bytes=1000, mode="loop"))
                far_end = await one_far_end(measurer)
                if number == 1:
                    net.server.send("m1", wire.Stop(meas_id=1, reason="enough"))
                else:
                    os.kill(measurer.process.pid, signal.SIGKILL)
                assert not await asyncio.to_thread(left_of, [far_end], 2.0)


async def one_far_end(measurer: Process) -> psutil.Process:
    """The far end that runs, once there is one."""
    async with asyncio.timeout(START_S):
        while not (found := [child for child in measurer.children() if "--far-end" in child.cmdline()]):  # noqa: ASYNC110 - a process has no event
            await asyncio.sleep(0.05)
    [far_end] = found
    return far_end


@pytest.mark.faults
async def test_a_killed_tor_client_is_started_again(keys: Keyring) -> None:
    async with (
        running(keys, "127.0.0.1", SessionLimits()) as net,
        started(configured(keys, net.addr)) as measurer,
    ):
        await measurer.ready()
        await net.told.wait_of(PeerJoined)
        torclient = psutil.Process(measurer.process.pid).children()[0]
        torclient.kill()
        async with asyncio.timeout(START_S):
            while "the Tor client is up" not in measurer.log.read_text().partition("was lost")[2]:  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.1)
        told = len(net.told.of(PeerMessage))
        answer = await failure_to(net, order(3, relay_addr="127.0.0.1:9", rate_bytes=1000), told + 1)
        assert answer.code == "LAUNCH_CIRCS"


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"key": "/nowhere/m1.pem"}, 1, "/nowhere/m1.pem: no such key or certificate file"),
        ({"coord_cert": "/nowhere/c.pem"}, 1, "/nowhere/c.pem: no such key or certificate file"),
        ({"max_rat": 3}, 2, "max_rat: unknown key"),
        ({"max_rate": "fast"}, 2, "[measurer] max_rate: expected Mbit/s"),
        ({"allowed_networks": "everywhere"}, 2, "[measurer] allowed_networks: expected"),
        ({"coord_addr": "nowhere"}, 2, "[measurer] coord_addr: expected"),
        ({"datadir": "/dev/null/x"}, 1, "cannot create the directory /dev/null/x"),
    ],
    ids=["key", "coord_cert", "unknown key", "max_rate", "allowed_networks", "coord_addr", "datadir"],
)
def test_what_keeps_it_from_starting_is_one_line(
    keys: Keyring, capsys: pytest.CaptureFixture[str], changes: dict[str, object], status: int, reason: str
) -> None:
    config = configured(keys, Address("127.0.0.1", 1), **changes)
    assert main(["measurer", "--config", str(config)]) == status
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("flashflow measurer: ")]
    assert len(lines) == 1
    assert reason in lines[0]
    assert "Traceback" not in error


def test_another_tor_client_is_refused(keys: Keyring, capsys: pytest.CaptureFixture[str]) -> None:
    config = configured(keys, Address("127.0.0.1", 1))
    config.write_text(config.read_text() + "[tor]\ntor_bin = /usr/bin/tor\n")
    assert main(["measurer", "--config", str(config)]) == 2
    assert "[tor] tor_bin: expected nothing" in capsys.readouterr().err
