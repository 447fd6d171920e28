"""Keeps one Tor client running: started, watched, started again with back-off; commands are answered in any case."""

import asyncio
import logging
from collections.abc import Callable

from flashflow.model.errors import FlashFlowError
from flashflow.shell.parent import child_environment
from flashflow.shell.torcontrol import ControlPlace
from flashflow.shell.tordriver import MEASUREMENT_EVENTS, Subscription, TorDriver

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 32.0

log = logging.getLogger(__name__)


class TorKeeper:
    """Runs `argv`, a Tor client with its control socket at `control_socket`; the callbacks come on the loop.

    Without `argv` it keeps a connection to a tor that somebody else runs.
    """

    def __init__(
        self,
        argv: list[str],
        control_socket: ControlPlace,
        *,
        on_event: Callable[[object], None],
        on_up: Callable[[], None],
        on_lost: Callable[[str], None],
        on_failed: Callable[[str], None] = lambda reason: None,
        subscription: Subscription = MEASUREMENT_EVENTS,
        name: str = "Tor client",
    ) -> None:
        """`on_event` gets the subscription's events; `on_lost` comes once after each `on_up`, `on_failed` instead.

        A control connection that is replaced is both, one after the other: what was begun on it is lost.
        """
        self._argv = argv
        self._control_socket = control_socket
        self._on_event = on_event
        self._on_up = on_up
        self._on_lost = on_lost
        self._on_failed = on_failed
        self._subscription = subscription
        self._name = name
        self._driver: TorDriver | None = None
        self._lost: asyncio.Future[str] | None = None

    async def run(self) -> None:
        """Until cancelled; the process has ended then."""
        delay_s = FIRST_DELAY_S
        while True:
            if await self._one_run(delay_s):
                delay_s = FIRST_DELAY_S
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LONGEST_DELAY_S)

    async def command(self, line: str, timeout_s: float) -> tuple[bool, str]:
        """Send one command: whether it was answered with 250, and the answer's text or why there is none."""
        if self._driver is None:
            return False, f"the {self._name} is not running"
        reply = await self._driver.command(line, timeout_s)
        return reply.ok, reply.text

    async def _one_run(self, delay_s: float) -> bool:
        """Start it and wait until it is lost; whether it came up."""
        lost = self._lost = asyncio.get_running_loop().create_future()
        driver = TorDriver(
            control_socket=self._control_socket,
            on_event=self._on_event,
            on_lost=self._driver_lost,
            on_replaced=self._driver_replaced,
            subscription=self._subscription,
            name=self._name,
        )
        try:
            await driver.start(self._argv, child_environment())
            self._driver = driver
            self._on_up()
            self._on_lost(await lost)
        except FlashFlowError as error:
            log.error("%s (trying again in %.0f s)", error.reason, delay_s)
            self._on_failed(error.reason)
            return False
        finally:
            self._driver = None
            await asyncio.shield(driver.close())
        return True

    def _driver_replaced(self, reason: str) -> None:
        self._on_lost(reason)
        self._on_up()

    def _driver_lost(self, reason: str) -> None:
        self._driver = None
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(reason)
