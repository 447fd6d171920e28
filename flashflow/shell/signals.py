"""The first SIGINT or SIGTERM drains, a second one stops at once; the exit status tells the signal."""

import asyncio
import os
import signal
from collections.abc import Callable


class StopSignals:
    """Watches SIGINT and SIGTERM on the running loop."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        self.received: signal.Signals | None = None
        self._on_first = on_first
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._caught, number)

    @property
    def exit_status(self) -> int:
        """130 after SIGINT, 143 after SIGTERM, 0 without a signal."""
        return 0 if self.received is None else 128 + self.received

    def _caught(self, number: signal.Signals) -> None:
        if self.received is not None:
            os._exit(128 + number)  # children follow by PR_SET_PDEATHSIG
        self.received = number
        self._on_first()
