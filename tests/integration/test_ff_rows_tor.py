"""The Tor driver with a real Tor client process: its thread is not ours, and its silence blocks nobody."""

import asyncio
import base64
import signal
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest_asyncio

from flashflow.model.ids import Address
from flashflow.shell.parent import child_environment, own_command
from flashflow.shell.tordriver import TorDriver
from flashflow.torctl.events import CircEvent, MeasEnd

FP = "AB" * 20
KEY = base64.b64encode(bytes(31) + b"\x01").decode().rstrip("=")


def closed_port(host: str) -> Address:
    """Where nobody listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as closed:
        return Address(host, closed.getsockname()[1])


class Driven:
    """A running Tor client, and what it told, with the thread on which it was told."""

    def __init__(self, folder: Path) -> None:
        self.events: asyncio.Queue[object] = asyncio.Queue()
        self.threads: set[int] = set()
        self.lost: asyncio.Queue[str] = asyncio.Queue()
        self.driver = TorDriver(
            control_socket=folder / "control", on_event=self._hear, on_lost=self.lost.put_nowait
        )
        self.argv = own_command("torclient", "--data-dir", str(folder), "--workers", "1")

    def _hear(self, event: object) -> None:
        self.threads.add(threading.get_ident())
        self.events.put_nowait(event)

    @property
    def process(self) -> psutil.Process:
        """The Tor client's process."""
        (found,) = [one for one in psutil.Process().children() if self.argv[-4:] == one.cmdline()[-4:]]
        return found


@pytest_asyncio.fixture
async def driven(tmp_path: Path) -> AsyncIterator[Driven]:
    driven = Driven(tmp_path / "tor")
    await driven.driver.start(driven.argv, child_environment())
    yield driven
    await driven.driver.close()


async def test_a_circuit_that_fails_is_told_on_the_loops_own_thread(driven: Driven) -> None:
    for meas_id, host in ((5, "127.0.0.1"), (6, "::1")):
        line = f"MEASR_START_MEAS {meas_id} {FP} 1 3 RATE=1000 TOKEN={'00' * 16} ADDR={closed_port(host)}"
        reply = await driven.driver.command(f"{line} ED25519={KEY} NTOR={KEY}", 10.0)
        assert (reply.ok, reply.code) == (True, "250")
        *words, circuits = reply.text.split()
        assert words == ["FF_MEAS", str(meas_id), "LAUNCHED"]
        told: list[object] = []
        while not told or not isinstance(told[-1], MeasEnd):
            told.append(await driven.events.get())
        assert CircEvent(circuits.removeprefix("CIRCS="), "FAILED", "LINK_FAILED") in told
        assert told[-1] == MeasEnd(meas_id, False, "LINK_FAILED")
    assert driven.threads == {threading.get_ident()}


async def test_a_tor_client_that_hangs_blocks_nobody_and_is_asked_again(driven: Driven) -> None:
    """The process stands still: the loop turns on, the command fails in time, a new controller takes over."""
    process = driven.process
    process.send_signal(signal.SIGSTOP)
    try:
        asked = asyncio.get_running_loop().create_task(driven.driver.command("GETINFO version", 0.2))
        turns = 0
        while turns < 10:
            await asyncio.sleep(0.05)
            turns += 1
    finally:
        process.send_signal(signal.SIGCONT)
    reply = await asked
    assert (reply.ok, reply.text) == (False, "the Tor client did not answer within 0.2 s")
    again = await driven.driver.command("GETINFO version", 10.0)
    assert again.ok
    assert again.text.startswith("version=")
    assert driven.lost.empty()


async def test_a_tor_client_that_ends_is_told_and_commands_fail_in_words(driven: Driven) -> None:
    driven.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):
        assert await driven.lost.get() in (
            "the Tor client ended with status 143",
            "the control connection to the Tor client was closed",
        )
    reply = await driven.driver.command("GETINFO version", 5.0)
    assert (reply.ok, reply.text) == (False, "the Tor client is not running")
