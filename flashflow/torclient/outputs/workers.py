"""Starts the worker processes and carries messages to and from them."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from flashflow.model.errors import LocalError
from flashflow.shell.parent import child_environment
from flashflow.shell.tasks import TaskGroupOfNamed
from flashflow.torclient.core.effects import TellWorker
from flashflow.torclient.core.events import WorkerDied, WorkerSpoke
from flashflow.torclient.core.messages import FrameReader, FromWorker, WorkerReady, encode_frame


class WorkerPool:
    """`count` processes, each at the other end of a socket pair; one that dies is replaced."""

    def __init__(
        self,
        count: int,
        tls_key: Path | None,
        post: Callable[[object], None],
        on_bug: Callable[[BaseException], None],
    ) -> None:
        self._count = count
        self._tasks = TaskGroupOfNamed(on_bug)
        self._tls_key = tls_key
        self._post = post
        self._workers: list[_WorkerLink] = []
        self._kept: dict[int, list[bytes]] = {}
        """For a worker that is being replaced, what its successor is to hear."""
        self._closing = False

    async def start(self) -> None:
        """Starts all of them and waits until they run. Raises LocalError."""
        for index in range(self._count):
            self._workers.append(await self._launch(index))
        for worker in self._workers:
            await worker.ready.wait()
            if worker.process.poll() is not None:
                raise LocalError(f"a worker process ended at once with status {worker.process.returncode}")

    def tell(self, effect: TellWorker) -> None:
        """Sends a message."""
        frame = encode_frame(effect.message)
        if effect.worker in self._kept:
            self._kept[effect.worker].append(frame)
        else:
            self._workers[effect.worker].send(frame)

    async def close(self) -> None:
        """Ends all of them: they exit when their sockets close."""
        self._closing = True
        await self._tasks.cancel_all()
        for worker in self._workers:
            worker.abort()
        for worker in self._workers:
            await asyncio.to_thread(_wait, worker.process)

    async def _launch(self, index: int) -> "_WorkerLink":
        ours, theirs = socket.socketpair()
        argv = [sys.executable, "-m", "flashflow.torclient.workers"]
        if self._tls_key is not None:
            argv.append(str(self._tls_key))
        with theirs:
            process = subprocess.Popen(argv, stdin=theirs.fileno(), env=child_environment())  # noqa: ASYNC220 - must fork here
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: _WorkerLink(self, index, process), sock=ours)
        return link

    def received(self, index: int, data: bytes, frames: FrameReader) -> None:
        """Bytes came from a worker."""
        for message in frames.receive(data):
            if not isinstance(message, WorkerReady):
                self._post(WorkerSpoke(index, cast(FromWorker, message)))

    def lost(self, index: int, process: "subprocess.Popen[bytes]") -> None:
        """A worker's socket is closed."""
        if not self._closing:
            self._kept[index] = []
            self._post(WorkerDied(index))
            self._tasks.start(f"worker {index}", self._replace(index, process))

    async def _replace(self, index: int, process: "subprocess.Popen[bytes]") -> None:
        await asyncio.to_thread(_wait, process)
        self._workers[index] = await self._launch(index)
        for frame in self._kept.pop(index):
            self._workers[index].send(frame)


class _WorkerLink(asyncio.Protocol):
    def __init__(self, pool: WorkerPool, index: int, process: "subprocess.Popen[bytes]") -> None:
        self._pool = pool
        self._index = index
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None
        self.process = process
        self.ready = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop does not subclass it

    def data_received(self, data: bytes) -> None:
        self.ready.set()
        self._pool.received(self._index, data, self._frames)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ready.set()
        self._pool.lost(self._index, self.process)

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _wait(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
