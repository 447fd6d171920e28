"""The measurer's far ends as processes: they listen, serve the measured relay, and are gone when they are to be."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import psutil
import pytest

from flashflow.model.errors import LocalError
from flashflow.relay.identities import read_identities, write_identities
from flashflow.shell.parent import child_environment
from flashflow.shell.tasks import TaskGroupOfNamed
from measurer.core.effects import StartFarEnd, StopFarEnd
from measurer.core.events import FarEndEnded, FarEndReady
from measurer.outputs.far_end import IDENTITIES_FILE, RENEW_S, FarEnds, keep_fresh, local_address
from support.both_loops import both_loops
from support.far_peer import FarPeer, fingerprint
from support.orlink_keys import relay_keys

HOSTS = ["127.0.0.1", "::1"]
PEER = fingerprint(relay_keys(0))
WAIT_S = 30.0
FIRST = 0x80000001


class Bench:
    """Far ends with two identities, and what they told."""

    def __init__(self, folder: Path, host: str | None) -> None:
        write_identities(folder / IDENTITIES_FILE, [relay_keys(1), relay_keys(2)])
        self.told: asyncio.Queue[object] = asyncio.Queue()
        self.bugs: list[BaseException] = []
        self.tasks = TaskGroupOfNamed(self.bugs.append)
        self.far_ends = FarEnds(folder, host, 2, self.tasks, self.told.put_nowait)
        self.tasks.start("far ends", self.far_ends.run())

    async def next(self) -> object:
        return await asyncio.wait_for(self.told.get(), WAIT_S)


@asynccontextmanager
async def running(folder: Path, host: str | None = None) -> AsyncIterator[Bench]:
    bench = Bench(folder, host)
    try:
        yield bench
    finally:
        await bench.tasks.cancel_all()
        assert bench.bugs == []
        await gone()


async def gone() -> None:
    """No far end is left."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes(), 5.0)
    assert alive == []


def processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if is_far_end(child)]


def is_far_end(process: psutil.Process) -> bool:
    try:
        return "--far-end" in process.cmdline()
    except psutil.Error:  # it has ended
        return False


def serve(ready: object, host: str) -> None:
    """A circuit to each identity, as the measured relay."""
    assert isinstance(ready, FarEndReady)
    assert [far.fingerprint for far in ready.far_ends] == [fingerprint(relay_keys(n)) for n in (1, 2)]
    for far, keys in zip(ready.far_ends, (relay_keys(1), relay_keys(2)), strict=True):
        assert far.address.host == host
        assert (far.ed25519, far.ntor) == (keys.identity.ed25519, keys.ntor_public)
        with closing(FarPeer(far.address, keys, relay_keys(0))) as peer:
            peer.create(FIRST)


@pytest.mark.parametrize("host", HOSTS)
async def test_it_listens_where_the_relay_is_reached_from_until_it_is_stopped(
    tmp_path: Path, host: str
) -> None:
    async with running(tmp_path) as bench:
        bench.far_ends.start(StartFarEnd(7, PEER, host))
        ready = await bench.next()
        await asyncio.to_thread(serve, ready, host)
        bench.far_ends.stop(StopFarEnd(7))
        bench.far_ends.stop(StopFarEnd(7))
        await gone()
        assert isinstance(ready, FarEndReady)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(tuple(ready.far_ends[0].address))
        assert bench.told.empty()


@both_loops
async def test_the_configured_address_is_taken_and_its_fault_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, "192.0.2.1") as bench:
        bench.far_ends.start(StartFarEnd(7, PEER, "127.0.0.1"))
        ended = await bench.next()
        assert isinstance(ended, FarEndEnded)
        assert ended.effect_id == 7
        assert "ended with status 1: flashflow relay: cannot listen on 192.0.2.1:0" in ended.reason


@both_loops
async def test_one_that_dies_is_told(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        bench.far_ends.start(StartFarEnd(7, PEER, "127.0.0.1"))
        assert isinstance(await bench.next(), FarEndReady)
        [process] = processes()
        process.kill()
        ended = await bench.next()
        assert isinstance(ended, FarEndEnded)
        assert ended.reason.startswith("the far end ended with status -9")


@both_loops
async def test_one_that_is_stopped_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as bench:
        bench.far_ends.start(StartFarEnd(99, PEER, "127.0.0.1"))
        assert isinstance(await bench.next(), FarEndReady)  # the identities are made: nothing is waited for
        bench.far_ends.stop(StopFarEnd(99))
        before, starts = asyncio.all_tasks(), set()
        for number in range(8):
            bench.far_ends.start(StartFarEnd(number, PEER, "127.0.0.1"))
            for _ in range(number):
                await asyncio.sleep(0)  # at another step of its start each time
            starts |= asyncio.all_tasks() - before
            bench.far_ends.stop(StopFarEnd(number))
        _, pending = await asyncio.wait(starts, timeout=WAIT_S)
        assert not pending
        await gone()
        assert bench.told.empty()


SCRIPT = """
import asyncio, sys
from pathlib import Path
from flashflow.shell.tasks import TaskGroupOfNamed
from measurer.core.effects import StartFarEnd
from measurer.outputs.far_end import FarEnds

async def main():
    told = asyncio.Queue()
    tasks = TaskGroupOfNamed(print)
    far_ends = FarEnds(Path(sys.argv[1]), None, 2, tasks, told.put_nowait)
    tasks.start("run", far_ends.run())
    far_ends.start(StartFarEnd(1, "AB" * 20, "127.0.0.1"))
    print(await told.get(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.faults
async def test_none_outlives_a_measurer_that_is_killed(tmp_path: Path) -> None:
    write_identities(tmp_path / IDENTITIES_FILE, [relay_keys(1), relay_keys(2)])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env={**child_environment(), "PYTHONPATH": os.getcwd()},
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).startswith(b"FarEndReady")
    children = psutil.Process(process.pid).children()
    assert len(children) == 1
    process.kill()
    await process.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 2.0)
    assert alive == []


def test_identities_are_made_kept_and_made_anew(tmp_path: Path) -> None:
    path = tmp_path / IDENTITIES_FILE
    assert keep_fresh(path, 1, 0.0)
    assert path.stat().st_mode & 0o777 == 0o600
    made_utc_s = path.stat().st_mtime
    first = path.read_text()
    assert not keep_fresh(path, 1, made_utc_s + RENEW_S - 1)
    assert path.read_text() == first
    assert keep_fresh(path, 1, made_utc_s + RENEW_S)
    assert path.read_text() != first
    assert keep_fresh(path, 2, path.stat().st_mtime)
    assert len(read_identities(path)) == 2
    path.write_text("[]")
    assert keep_fresh(path, 1, path.stat().st_mtime)
    assert len(read_identities(path)) == 1


def test_identities_that_cannot_be_stored_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot write"):
        keep_fresh(tmp_path / "nowhere" / IDENTITIES_FILE, 1, 0.0)


@pytest.mark.parametrize("host", HOSTS)
def test_the_address_towards_a_relay(host: str) -> None:
    assert local_address(host) == host


def test_no_address_towards_a_relay_is_one_line() -> None:
    with pytest.raises(LocalError, match="no address to listen on for a far end of"):
        local_address("255.255.255.255")
