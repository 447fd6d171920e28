"""Puts torclient together: control socket, core, workers."""

import asyncio
import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashflow.shell.files import lock_datadir, make_private_dir, write_private
from flashflow.shell.loop import Loop
from flashflow.shell.signals import StopSignals
from flashflow.torclient.core.effects import Announce, Answer, Log, TellWorker
from flashflow.torclient.core.sampling import DEFAULT_BUCKET_CELLS
from flashflow.torclient.core.state import TorClientCore
from flashflow.torclient.inputs.control import ControlServer
from flashflow.torclient.outputs.workers import WorkerPool
from flashflow.torclient.workers.tls import client_context
from flashflow.torctl.session import TOR_VERSION, Facts


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one torclient process."""

    data_dir: Path
    """Holds the control socket and its cookie; one process at a time."""
    tls_key: Path | None = None
    """PEM file with key and certificate that the coordinator's links present."""
    workers: int = 0
    """Worker processes; 0: one per processor."""
    bucket_cells: int = DEFAULT_BUCKET_CELLS
    """One echoed cell in so many is checked."""


async def serve(settings: Settings) -> int:
    """Runs until a signal, SIGNAL, or the owner's end; gives the exit status. Raises LocalError."""
    client_context(settings.tls_key)  # a bad key is said now, not by the workers
    make_private_dir(settings.data_dir)
    with lock_datadir(settings.data_dir, "torclient"):
        return await _serve(settings)


async def _serve(settings: Settings) -> int:
    count = settings.workers or os.cpu_count() or 1
    cookie, cookie_path = secrets.token_bytes(32), settings.data_dir / "control_auth_cookie"
    write_private(cookie_path, cookie)
    core = TorClientCore(workers=count, bucket_cells=settings.bucket_cells)
    outputs: dict[type, Callable[[Any], None]] = {Log: _log}
    loop = Loop(core, outputs)
    control = ControlServer(_facts(cookie, cookie_path), loop.post, loop.stop)
    pool = WorkerPool(count, settings.tls_key, loop.post, loop.fail)
    outputs |= {Answer: control.answer, Announce: control.announce, TellWorker: pool.tell}
    signals = StopSignals(loop.stop)
    try:
        await pool.start()
        await control.start(settings.data_dir / "control")
        await loop.run()
    finally:
        control.close()
        await pool.close()
        await asyncio.sleep(0)  # the transports' last callbacks
    return signals.exit_status


def _log(effect: Log) -> None:
    print(effect.text, file=sys.stderr, flush=True)


def _facts(cookie: bytes, cookie_path: Path) -> Facts:
    info = {
        "version": TOR_VERSION,
        "process/pid": str(os.getpid()),
        "status/bootstrap-phase": 'NOTICE BOOTSTRAP PROGRESS=100 TAG=done SUMMARY="Done"',
    }
    return Facts(cookie, str(cookie_path.absolute()), info, {"__OwningControllerProcess": ""})
