"""Far ends: one process for each loop measurement, with identities of its own, made in advance."""

import asyncio
import contextlib
import logging
import socket
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Final

from flashflow.model.errors import FlashFlowError, LocalError
from flashflow.model.ids import Address
from flashflow.orlink.keys import RelayKeys
from flashflow.relay.identities import STANDARD_INPUT, encode_identities
from flashflow.shell.parent import child_environment, own_command
from flashflow.shell.tasks import TaskGroupOfNamed
from measurer.core.effects import StartFarEnd, StopFarEnd
from measurer.core.events import FarEndEnded, FarEndReady
from measurer.core.farend import parse_ready

STOCK: Final = 4
"""So many far ends can start at once without waiting for their keys, which take 0.2 s to make."""
_ANY_PORT: Final = 9
"""Nothing is sent to it: the kernel is only asked for a route."""

log = logging.getLogger(__name__)


class FarEnds:
    """The far ends that run now; each is ended by its measurement's end, by `stop`, or with this process."""

    def __init__(
        self,
        host: str | None,
        identities: int,
        tasks: TaskGroupOfNamed,
        post: Callable[[object], None],
    ) -> None:
        """They listen on `host`; None: on the address from which this host reaches the relay."""
        self._host = host
        self._identities = identities
        self._tasks = tasks
        self._post = post
        self._running: dict[int, asyncio.Task[None]] = {}
        self._made: asyncio.Queue[bytes] = asyncio.Queue(STOCK)

    async def run(self) -> None:
        """Keep identities in store until cancelled."""
        while self._identities:
            await self._made.put(await asyncio.to_thread(make_identities, self._identities))

    def start(self, effect: StartFarEnd) -> None:
        """Start one; FarEndReady, or FarEndEnded, follows."""
        number = effect.effect_id
        self._running[number] = self._tasks.start(f"far end {number}", self._run_one(effect))

    def stop(self, effect: StopFarEnd) -> None:
        """End one at once."""
        task = self._running.pop(effect.effect_id, None)
        if task is not None:
            task.cancel()

    async def _run_one(self, effect: StartFarEnd) -> None:
        try:
            reason = await self._serve(effect, await self._made.get())
        except FlashFlowError as error:
            reason = error.reason
        self._running.pop(effect.effect_id, None)
        self._post(FarEndEnded(effect.effect_id, reason))

    async def _serve(self, effect: StartFarEnd, identities: bytes) -> str:
        """From start to end: why it ended. LocalError or PeerError if it does not start."""
        process = await self._spawn(effect)
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdin.write(identities)
            process.stdin.close()
            said = self._tasks.start(f"far end {effect.effect_id} log", _follow(process.stderr))
            line = (await process.stdout.readline()).decode("utf-8", "replace")
            if line:
                self._post(FarEndReady(effect.effect_id, parse_ready(line)))
            status = await process.wait()
            return f"the far end ended with status {status}: {await said}"
        finally:
            _kill(process)

    async def _spawn(self, effect: StartFarEnd) -> Process:
        host = self._host or local_address(effect.relay_host)
        argv = own_command(
            *("relay", "--far-end", "--only-peer", effect.relay),
            *("--listen", str(Address(host, 0)), "--identities", str(STANDARD_INPUT)),
        )
        # Not to be cancelled halfway: the process would run on, and nobody would know of it.
        spawning = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=child_environment()
            )
        )
        try:
            return await asyncio.shield(spawning)
        except asyncio.CancelledError:
            spawning.add_done_callback(_kill_spawned)
            raise
        except OSError as error:
            raise LocalError(f"cannot start the far end {argv[0]}: {error.strerror}") from error


def make_identities(count: int) -> bytes:
    """New keys of so many relays, for one far end."""
    return encode_identities([RelayKeys.generate() for _ in range(count)])


def local_address(host: str) -> str:
    """The IP address from which this host reaches `host`, an IP address. LocalError if it does not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, _ANY_PORT))
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError as error:
        raise LocalError(f"no address to listen on for a far end of {host}: {error.strerror}") from error


async def _follow(stream: asyncio.StreamReader) -> str:
    """Passes a far end's log on: the last line."""
    last = "it said nothing"
    async for line in stream:
        last = line.decode("utf-8", "replace").strip()
        log.info("far end: %s", last)
    return last


def _kill_spawned(spawning: asyncio.Future[Process]) -> None:
    if not spawning.cancelled() and spawning.exception() is None:
        _kill(spawning.result())


def _kill(process: Process) -> None:
    """It keeps nothing that could be lost."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
