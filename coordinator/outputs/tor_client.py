"""The coordinator's Tor client: kept running by TorKeeper, its events and answers handed to the core."""

import logging
from collections.abc import Callable
from pathlib import Path

from coordinator.core.effects import SendTorCommand
from coordinator.core.events import TorCameUp, TorReplied, TorWasLost
from flashflow.shell.tasks import TaskGroupOfNamed
from flashflow.shell.torkeeper import TorKeeper
from flashflow.torctl.events import EventError

log = logging.getLogger(__name__)


class TorClient:
    """Keeps one Tor client running; `post` takes TorCameUp, TorWasLost, TorReplied and torctl's events."""

    def __init__(
        self, argv: list[str], control_socket: Path, tasks: TaskGroupOfNamed, post: Callable[[object], None]
    ) -> None:
        self._tasks = tasks
        self._post = post
        self._keeper = TorKeeper(
            argv,
            control_socket,
            on_event=self._on_event,
            on_up=lambda: post(TorCameUp()),
            on_lost=lambda reason: post(TorWasLost(reason)),
        )

    async def run(self) -> None:
        """Until cancelled."""
        await self._keeper.run()

    def send(self, effect: SendTorCommand) -> None:
        """Send one command; the outcome comes as TorReplied."""
        self._tasks.start(f"tor command {effect.effect_id}", self._command(effect))

    def _on_event(self, event: object) -> None:
        if isinstance(event, EventError):
            log.warning("the Tor client sent an event that makes no sense: %s", event.reason)
        else:
            self._post(event)

    async def _command(self, effect: SendTorCommand) -> None:
        ok, text = await self._keeper.command(effect.line, effect.timeout_s)
        self._post(TorReplied(effect.effect_id, ok, text))
