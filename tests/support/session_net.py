"""Session server and clients on real sockets, with everything they tell; raw TLS peers that misbehave."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from flashflow.keys import load_certificate
from flashflow.model.ids import Address
from flashflow.shell.acceptor import AcceptLimits
from flashflow.shell.sessionclient import SessionClient
from flashflow.shell.sessions import SessionServer
from flashflow.wire.framing import encode_frame
from flashflow.wire.rules import SessionLimits
from support.keyring import Keyring
from support.wire_pair import epoch

QUICK = SessionLimits(heartbeat_s=0.3, greeting_s=3.0)
RESUME_S = 0.8
WAIT_S = 10.0


def frame(**fields: object) -> bytes:
    """A frame with an envelope of these fields."""
    return encode_frame(json.dumps(fields).encode())


def hello(name: str = "m1") -> bytes:
    """A measurer's first frame."""
    fields = {"capacity_bytes": 5, "epoch": epoch(5), "peer_epoch": None, "received": 0}
    return frame(type="hello", version=1, name=name, **fields)


class Told:
    """Events, and waiting for one."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self._came = asyncio.Event()

    def __call__(self, event: object) -> None:
        self.events.append(event)
        self._came.set()

    def of(self, kind: type) -> list[Any]:
        """The events of one type."""
        return [event for event in self.events if isinstance(event, kind)]

    async def wait(self, ready: Callable[[], bool]) -> None:
        """Until `ready()`, which is asked again after each event."""
        async with asyncio.timeout(WAIT_S):
            while not ready():
                self._came.clear()
                await self._came.wait()

    async def wait_of(self, kind: type, count: int = 1) -> list[Any]:
        """Until `count` events of one type came."""
        await self.wait(lambda: len(self.of(kind)) >= count)
        return self.of(kind)


class Client:
    """A session client that runs in a task."""

    def __init__(self, key: Path, cert: Path, addr: Address, *, capacity_bytes: int = 1000) -> None:
        self.told = Told()
        self.session = SessionClient(
            key_file=key,
            coord_cert=cert,
            coord_addr=addr,
            capacity_bytes=capacity_bytes,
            on_event=self.told,
            limits=QUICK,
            first_backoff_s=0.1,
            last_backoff_s=0.4,
        )
        self.task = asyncio.get_running_loop().create_task(self.session.run())

    async def stop(self) -> None:
        """End it, as its process would."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def cut(self) -> None:
        """The connection breaks, unnoticed by the session beforehand."""
        link = self.session._link
        assert link is not None
        link.abort()


class Net:
    """A coordinator's session server and what belongs to it."""

    def __init__(
        self, keys: Keyring, limits: SessionLimits = QUICK, accept_limits: AcceptLimits | None = None
    ) -> None:
        self.keys = keys
        self.told = Told()
        self.undelivered: list[tuple[str, Any]] = []
        self.complaints: list[dict[str, Any]] = []
        self.clients: list[Client] = []
        self.addr = Address("", 0)
        self.server = SessionServer(
            key_file=keys.coord_key,
            peers_dir=keys.coord_dir,
            on_event=self.told,
            on_undelivered=lambda name, notice: self.undelivered.append((name, notice)),
            resume_s=RESUME_S,
            limits=limits,
            accept_limits=accept_limits,
        )

    def client(self, name: str, cert: Path | None = None) -> Client:
        """A measurer that keeps connecting."""
        made = Client(self.keys.key(name), cert or self.keys.coord_cert, self.addr)
        self.clients.append(made)
        return made

    async def raw(self, name: str | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TLS connection with the key of `name` (None: without certificate) that a test writes to by hand."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=load_certificate(self.keys.coord_cert).pem)
        if name is not None:
            context.load_cert_chain(self.keys.key(name))
        return await asyncio.open_connection(self.addr.host, self.addr.port, ssl=context)


@asynccontextmanager
async def running(
    keys: Keyring, host: str, limits: SessionLimits = QUICK, accept_limits: AcceptLimits | None = None
) -> AsyncIterator[Net]:
    """A server on `host`; in the end nothing may have reached the loop's exception handler."""
    net = Net(keys, limits, accept_limits)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: net.complaints.append(context))
    net.addr = await net.server.start(Address(host, 0))
    try:
        yield net
    finally:
        for client in net.clients:
            await client.stop()
        await net.server.close()
    assert net.complaints == []
