"""Puts the measurer together on one loop: inputs -> core -> outputs."""

import asyncio
import logging
from collections.abc import Callable

from flashflow.config.measurer import MeasurerConfig
from flashflow.shell.files import lock_datadir, make_private_dir
from flashflow.shell.loop import Loop
from flashflow.shell.parent import own_command
from flashflow.shell.sessionclient import SessionClient
from flashflow.shell.signals import StopSignals
from flashflow.shell.tasks import TaskGroupOfNamed
from flashflow.shell.toroutput import TorOutput
from flashflow.torctl.client import SendTorCommand
from measurer.core import effects as do
from measurer.core import events as ev
from measurer.core.handle import MeasurerCore
from measurer.core.state import Limits
from measurer.inputs.session import translate
from measurer.outputs.far_end import FarEnds

FLUSH_S = 10.0
"""At the end the coordinator may take this long to take over what it was sent: longer than a connection that is lost
takes to be found out (3.5 s) and the coordinator to give it up (5 s)."""

log = logging.getLogger(__name__)


class MeasurerService:
    """One run of the measurer."""

    def __init__(self, config: MeasurerConfig) -> None:
        """Reads the certificates; on the running loop. Raises LocalError."""
        limits = Limits(
            config.max_rate_bytes,
            config.allowed_networks,
            config.bucket_cells,
            loops=config.far_end_identities > 0,
        )
        self._tasks = TaskGroupOfNamed(self._bug)
        self._client = SessionClient(
            key_file=config.key,
            coord_cert=config.coord_cert,
            coord_addr=config.coord_addr,
            capacity_bytes=config.max_rate_bytes,
            on_event=lambda event: self._post(translate(event)),
        )
        self._tor = TorOutput(tor_command(config), config.tor_datadir / "control", self._tasks, self._post)
        self._far_ends = FarEnds(config.far_end_addr, config.far_end_identities, self._tasks, self._post)
        self._announced = False
        self._loop = Loop(MeasurerCore(limits), self._outputs())

    async def run(self) -> int:
        """Until a signal has drained it; returns the exit status."""
        asyncio.get_running_loop().set_exception_handler(self._on_exception)
        signals = StopSignals(lambda: self._post(ev.StopRequested()))
        log.info("measurer %s", self._client.name)
        self._tasks.start("tor client", self._tor.run())
        self._tasks.start("far ends", self._far_ends.run())
        try:
            await self._loop.run()
            await self._client.wait_delivered(FLUSH_S)
        finally:
            await self._tasks.cancel_all()
        return signals.exit_status

    def _post(self, event: object) -> None:
        self._loop.post(event)

    def _outputs(self) -> dict[type, Callable[..., None]]:
        return {
            do.SendToCoordinator: lambda effect: self._client.send(effect.message),
            SendTorCommand: self._tor.send,
            do.StartFarEnd: self._far_ends.start,
            do.StopFarEnd: self._far_ends.stop,
            do.Announce: lambda effect: self._announce(),
            do.Log: lambda effect: log.log(effect.level, "%s", effect.text),
            do.StopService: lambda effect: self._loop.stop(),
        }

    def _announce(self) -> None:
        if not self._announced:
            self._announced = True
            self._tasks.start(
                "session", self._client.run()
            )  # not before: it would be given what it cannot do
            print("ready", flush=True)

    def _bug(self, error: BaseException) -> None:
        self._loop.fail(error)

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """The last-chance handler: an exception that reached it is a bug, unless a transport's own network error."""
        error = context.get("exception")
        if isinstance(error, OSError):  # the connection's owner hears of it by itself
            log.debug("%s: %s", context.get("message"), error)
        elif isinstance(error, BaseException):
            self._bug(error)
        else:
            log.warning("%s", context.get("message"))


def tor_command(config: MeasurerConfig) -> list[str]:
    """The command line of the measurer's Tor client."""
    options = {
        "--data-dir": config.tor_datadir,
        "--workers": config.workers,
        "--bucket-cells": config.bucket_cells,
    }
    return own_command("torclient", *(str(word) for pair in options.items() for word in pair))


def prepare(config: MeasurerConfig) -> object:
    """Directories, and the lock of the data directory, which the caller keeps. Raises LocalError."""
    for path in (config.datadir, config.keydir, config.tor_datadir):
        make_private_dir(path)
    return lock_datadir(config.datadir, "measurer")
