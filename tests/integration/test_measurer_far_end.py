"""The measurer's far ends as processes: they listen, serve the measured relay, and are gone when they are to be."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import psutil
import pytest

from flashflow.model.errors import LocalError
from flashflow.relay.identities import encode_identities
from flashflow.shell.parent import child_environment
from flashflow.shell.tasks import TaskGroupOfNamed
from measurer.core.effects import StartFarEnd, StopFarEnd
from measurer.core.events import FarEndEnded, FarEndReady
from measurer.outputs.far_end import STOCK, FarEnds, local_address
from support.both_loops import both_loops
from support.far_peer import FarPeer, fingerprint
from support.orlink_keys import relay_keys
from support.processes import left_of

HOSTS = ["127.0.0.1", "::1"]
PEER = fingerprint(relay_keys(0))
WAIT_S = 30.0
FIRST = 0x80000001


class Bench:
    """Far ends with two identities, and what they told."""

    def __init__(self, host: str | None) -> None:
        self.told: asyncio.Queue[object] = asyncio.Queue()
        self.bugs: list[BaseException] = []
        self.tasks = TaskGroupOfNamed(self.bugs.append)
        self.far_ends = FarEnds(host, 2, self.tasks, self.told.put_nowait)
        self.tasks.start("far ends", self.far_ends.run())

    async def next(self) -> object:
        return await asyncio.wait_for(self.told.get(), WAIT_S)


@pytest.fixture
def known_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every far end has those of `relay_keys(1)` and `relay_keys(2)`, and none has to wait for them."""
    monkeypatch.setattr("measurer.outputs.far_end.STOCK", 16)
    monkeypatch.setattr(
        "measurer.outputs.far_end.make_identities",
        lambda count: encode_identities([relay_keys(1 + number) for number in range(count)]),
    )


@asynccontextmanager
async def running(host: str | None = None) -> AsyncIterator[Bench]:
    bench = Bench(host)
    try:
        yield bench
    finally:
        await bench.tasks.cancel_all()
        assert bench.bugs == []
        await gone()


async def gone() -> None:
    """No far end is left."""
    assert not await asyncio.to_thread(left_of, processes(), 5.0)


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


@pytest.mark.usefixtures("known_identities")
@pytest.mark.parametrize("host", HOSTS)
async def test_it_listens_where_the_relay_is_reached_from_until_it_is_stopped(host: str) -> None:
    async with running() as bench:
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
async def test_the_configured_address_is_taken_and_its_fault_is_told() -> None:
    async with running("192.0.2.1") as bench:
        bench.far_ends.start(StartFarEnd(7, PEER, "127.0.0.1"))
        ended = await bench.next()
        assert isinstance(ended, FarEndEnded)
        assert ended.effect_id == 7
        assert "ended with status 1: flashflow relay: cannot listen on 192.0.2.1:0" in ended.reason


@both_loops
async def test_one_that_dies_is_told() -> None:
    async with running() as bench:
        bench.far_ends.start(StartFarEnd(7, PEER, "127.0.0.1"))
        assert isinstance(await bench.next(), FarEndReady)
        [process] = processes()
        process.kill()
        ended = await bench.next()
        assert isinstance(ended, FarEndEnded)
        assert ended.reason.startswith("the far end ended with status -9")


@both_loops
@pytest.mark.usefixtures("known_identities")
async def test_one_that_is_stopped_while_it_starts_leaves_nothing() -> None:
    async with running() as bench:
        bench.far_ends.start(StartFarEnd(99, PEER, "127.0.0.1"))
        assert isinstance(await bench.next(), FarEndReady)  # by now there are identities for all below
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
import asyncio
from flashflow.shell.tasks import TaskGroupOfNamed
from measurer.core.effects import StartFarEnd
from measurer.outputs.far_end import FarEnds

async def main():
    told = asyncio.Queue()
    tasks = TaskGroupOfNamed(print)
    far_ends = FarEnds(None, 2, tasks, told.put_nowait)
    tasks.start("run", far_ends.run())
    far_ends.start(StartFarEnd(1, "AB" * 20, "127.0.0.1"))
    print(await told.get(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.faults
async def test_none_outlives_a_measurer_that_is_killed() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT),
        stdout=asyncio.subprocess.PIPE,
        env={**child_environment(), "PYTHONPATH": os.getcwd()},
    )
    assert process.stdout is not None
    assert (await process.stdout.readline()).startswith(b"FarEndReady")
    children = psutil.Process(process.pid).children()
    assert len(children) == 1
    process.kill()
    await process.wait()
    assert not await asyncio.to_thread(left_of, children, 2.0)


async def test_each_far_end_has_identities_of_its_own_also_when_many_start_at_once() -> None:
    count = STOCK + 2
    async with running() as bench:
        for number in range(count):
            bench.far_ends.start(StartFarEnd(number, PEER, "127.0.0.1"))
        told = [await bench.next() for _ in range(count)]
        found = [far for ready in told if isinstance(ready, FarEndReady) for far in ready.far_ends]
    assert len(found) == 2 * count
    for keys in ("fingerprint", "ed25519", "ntor"):
        assert len({getattr(far, keys) for far in found}) == 2 * count


@pytest.mark.parametrize("host", HOSTS)
def test_the_address_towards_a_relay(host: str) -> None:
    assert local_address(host) == host


def test_no_address_towards_a_relay_is_one_line() -> None:
    with pytest.raises(LocalError, match="no address to listen on for a far end of"):
        local_address("255.255.255.255")
