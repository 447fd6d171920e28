"""The Tor client of a coordinator or a measurer: kept running, its events and answers handed to the core."""

from collections.abc import Callable
from pathlib import Path

from flashflow.shell.tasks import TaskGroupOfNamed
from flashflow.shell.torkeeper import TorKeeper
from flashflow.torctl.client import SendTorCommand, TorCameUp, TorReplied, TorWasLost


class TorOutput:
    """Keeps one Tor client running; `post` takes what `torctl.client` and `torctl.events` define."""

    def __init__(
        self, argv: list[str], control_socket: Path, tasks: TaskGroupOfNamed, post: Callable[[object], None]
    ) -> None:
        self._tasks = tasks
        self._post = post
        self._keeper = TorKeeper(
            argv,
            control_socket,
            on_event=post,
            on_up=lambda: post(TorCameUp()),
            on_lost=lambda reason: post(TorWasLost(reason)),
        )

    async def run(self) -> None:
        """Keep it running until cancelled."""
        await self._keeper.run()

    def send(self, effect: SendTorCommand) -> None:
        """Send one command; the outcome comes as TorReplied."""
        self._tasks.start(f"tor command {effect.effect_id}", self._command(effect))

    async def _command(self, effect: SendTorCommand) -> None:
        ok, text = await self._keeper.command(effect.line, effect.timeout_s)
        self._post(TorReplied(effect.effect_id, ok, text))
