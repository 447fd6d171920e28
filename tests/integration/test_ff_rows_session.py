"""A measurer that was started before its coordinator: it tries again, ever more slowly, up to a limit."""

import asyncio
from pathlib import Path
from typing import TypeVar

import pytest

from flashflow.model.ids import Address
from flashflow.shell.sessionclient import Connected, SessionClient, Unreachable
from flashflow.shell.sessions import PeerJoined, PeerMessage, SessionServer
from flashflow.testnet.ports import free_ports
from support.keyring import Keyring
from support.wire_pair import report

HOSTS = ["127.0.0.1", "::1"]
T = TypeVar("T")


class Heard:
    """Events of one side, in order."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[object] = asyncio.Queue()

    def __call__(self, event: object) -> None:
        self._events.put_nowait(event)

    async def wait(self, kind: type[T]) -> T:
        """The next event of `kind`; those before it are dropped."""
        async with asyncio.timeout(20):
            while not isinstance(event := await self._events.get(), kind):
                pass
        return event


@pytest.mark.parametrize("host", HOSTS)
async def test_a_measurer_tries_again_ever_more_slowly_until_the_coordinator_is_there(
    tmp_path: Path, host: str
) -> None:
    [port] = free_ports(host, 1)
    keys, addr, coord, measurer = Keyring(tmp_path, "m1"), Address(host, port), Heard(), Heard()
    session = SessionClient(
        key_file=keys.key("m1"),
        coord_cert=keys.coord_cert,
        coord_addr=addr,
        capacity_bytes=1_000_000,
        on_event=measurer,
        first_backoff_s=0.02,
        last_backoff_s=0.08,
    )
    run = asyncio.create_task(session.run())
    tries = [await measurer.wait(Unreachable) for _ in range(5)]
    assert tries[0].reason.startswith(f"coordinator {addr}: ")
    for attempt, most_s in zip(tries, (0.02, 0.04, 0.08, 0.08, 0.08), strict=True):
        assert most_s / 2 <= attempt.retry_s <= most_s
    listening = SessionServer(key_file=keys.coord_key, peers_dir=keys.coord_dir, on_event=coord)
    await listening.start(addr)
    joined = await coord.wait(PeerJoined)
    assert (joined.name, joined.capacity_bytes, joined.host) == ("m1", 1_000_000, host)
    assert not (await measurer.wait(Connected)).resumed
    session.send(report(1))
    assert (await coord.wait(PeerMessage)).message == report(1)
    run.cancel()
    await asyncio.wait([run])
    await listening.close()
