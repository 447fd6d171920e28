"""The coordinator's Tor client: started, watched, started again with back-off; commands go through a bounded wait."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from coordinator.core.effects import SendTorCommand
from coordinator.core.events import TorCameUp, TorReplied, TorWasLost
from flashflow.model.errors import FlashFlowError
from flashflow.shell.parent import child_environment
from flashflow.shell.tasks import TaskGroupOfNamed
from flashflow.shell.tordriver import TorDriver
from flashflow.torctl.events import EventError

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 32.0

log = logging.getLogger(__name__)


class TorClient:
    """Keeps one Tor client running; `post` takes TorCameUp, TorWasLost, TorReplied and torctl's events."""

    def __init__(
        self, argv: list[str], control_socket: Path, tasks: TaskGroupOfNamed, post: Callable[[object], None]
    ) -> None:
        self._argv = argv
        self._control_socket = control_socket
        self._tasks = tasks
        self._post = post
        self._driver: TorDriver | None = None
        self._lost = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        delay_s = FIRST_DELAY_S
        while True:
            self._lost.clear()
            driver = TorDriver(
                control_socket=self._control_socket, on_event=self._on_event, on_lost=self._on_lost
            )
            try:
                await driver.start(self._argv, child_environment())
            except FlashFlowError as error:
                log.error("%s (trying again in %.0f s)", error.reason, delay_s)
            else:
                self._driver = driver
                self._post(TorCameUp())
                await self._lost.wait()
                delay_s = FIRST_DELAY_S
            finally:
                self._driver = None
                await asyncio.shield(driver.close())
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)

    def send(self, effect: SendTorCommand) -> None:
        """Send one command; the outcome comes as TorReplied."""
        self._tasks.start(f"tor command {effect.effect_id}", self._command(effect))

    def _on_event(self, event: object) -> None:
        if isinstance(event, EventError):
            log.warning("the Tor client sent an event that makes no sense: %s", event.reason)
        else:
            self._post(event)

    def _on_lost(self, reason: str) -> None:
        if not self._lost.is_set():
            self._lost.set()
            self._post(TorWasLost(reason))

    async def _command(self, effect: SendTorCommand) -> None:
        if self._driver is None:
            self._post(TorReplied(effect.effect_id, ok=False, text="the Tor client is not running"))
            return
        reply = await self._driver.command(effect.line, effect.timeout_s)
        self._post(TorReplied(effect.effect_id, reply.ok, reply.text))
