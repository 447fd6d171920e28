"""A TorDirectory on the running loop, what it tells, and torrc lines that bring a tor into a private network."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from flashflow.directory.tor import TorDirectory, TorSettings
from flashflow.model.network import Consensus, ConsensusHeader
from flashflow.model.relay import RelayInfo
from flashflow.shell.files import make_private_dir
from flashflow.shell.torcontrol import ControlPlace
from flashflow.testnet.tornet import EVERY_TOR_LINES
from support.processes import has_ended, named
from support.real_tor import RealTor

NOBODY = "1" * 40
LONELY = ("TestingTorNetwork 1", f"DirAuthority nobody orport=1 v3ident={NOBODY} 127.0.0.1:1 {NOBODY}")
"""A network whose only authority is not there: this tor never has a consensus."""


def network_of(authority: RealTor) -> tuple[str, ...]:
    """A client's torrc lines for the network of `authority`."""
    lines = (authority.folder / "torrc").read_text().splitlines()
    return (*EVERY_TOR_LINES, *(line for line in lines if line.startswith("DirAuthority ")))


class Told:
    """What a TorDirectory told."""

    def __init__(self) -> None:
        self.readings: list[tuple[RelayInfo, ...]] = []
        self.headers: list[ConsensusHeader] = []
        self.failures: list[str] = []

    async def take(self, consensus: Consensus) -> None:
        """on_consensus."""
        self.readings.append(consensus.relays)
        self.headers.append(consensus.header)


async def until(condition: Callable[[], bool], what: str, timeout_s: float = 40.0) -> None:
    """Lets the loop run until the condition holds; fails the test if it does not."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def tor_directory(
    data_dir: Path, extra: tuple[str, ...], attach_to: ControlPlace | None = None, tor_bin: str = "tor"
) -> AsyncIterator[tuple[TorDirectory, Told]]:
    """One that runs, and is ended with its tor."""
    make_private_dir(data_dir)
    told = Told()
    settings = TorSettings(attach_to, tor_bin, data_dir, extra)
    directory = TorDirectory(settings, on_consensus=told.take, on_failed=told.failures.append)
    running = asyncio.create_task(directory.run())
    try:
        yield directory, told
    finally:
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()


def tors_of(pid: int) -> list[psutil.Process]:
    """The tor processes among the children of process `pid`."""
    return [child for child in named(psutil.Process(pid).children(), "tor") if not has_ended(child)]
