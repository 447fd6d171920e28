"""A real `flashflow torclient` under a TorDriver, and its events."""

import asyncio

from flashflow.shell.parent import child_environment, own_command
from flashflow.shell.tordriver import TorDriver

PATIENCE_S = 20.0


class TorClient:
    """One process; an async context manager."""

    def __init__(self, folder, *options):
        self.folder = folder
        self.events = []
        self.lost = []
        self.replaced = []
        self._news = asyncio.Event()
        self._taken = 0
        self._argv = own_command("torclient", "--data-dir", str(folder), "--workers", "1", *options)
        self.driver = TorDriver(
            control_socket=folder / "control",
            on_event=self._heard,
            on_lost=self._was_lost,
            on_replaced=self.replaced.append,
        )

    async def __aenter__(self):
        await self.driver.start(self._argv, child_environment())
        return self

    async def __aexit__(self, *_):
        await self.driver.close()

    async def say(self, command):
        """Gives one of our commands; (ok, code, text)."""
        reply = await self.driver.command(command.line(), PATIENCE_S)
        return reply.ok, reply.code, reply.text

    async def until(self, wanted, timeout_s=PATIENCE_S):
        """The next event that is wanted; those before it are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                while self._taken < len(self.events):
                    self._taken += 1
                    if wanted(self.events[self._taken - 1]):
                        return self.events[self._taken - 1]
                self._news.clear()
                await self._news.wait()

    def _heard(self, event):
        self.events.append(event)
        self._news.set()

    def _was_lost(self, reason):
        self.lost.append(reason)
        self._news.set()
