"""Relays from a stock tor: one that this service runs, or one that runs already.

tor is kept running by `TorKeeper`, whose stem thread hears NEWCONSENSUS and NEWDESC; each asks for a reading, several
of them for one. A reading is a process of its own (`load_consensus_from_tor`), which talks to tor's control port by
itself, so neither the texts nor their parsing touch this process.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import stem.response.events

from flashflow.directory.files import load_consensus_from_tor
from flashflow.model.errors import FlashFlowError
from flashflow.model.network import Consensus
from flashflow.shell.files import write_private
from flashflow.shell.torcontrol import ControlPlace
from flashflow.shell.tordriver import Subscription
from flashflow.shell.torkeeper import TorKeeper

NAME: Final = "directory's tor"
"""What messages call it."""
SETTLE_S: Final = 1.0
"""Shortest wait between tor's event and the reading: descriptors come in many small batches."""
REST_FACTOR: Final = 4.0
"""After a reading that took t seconds comes a rest of so many t: a fifth of a CPU at most while descriptors stream."""
RETRY_S: Final = 30.0
"""After a reading that failed, tor being up."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TorSettings:
    """Which tor."""

    attach_to: ControlPlace | None
    """The control port of a tor that runs already; None to run one."""
    tor_bin: str
    """The program, for one of our own."""
    data_dir: Path
    """Its data directory, which exists with mode 0700."""
    extra_lines: tuple[str, ...] = ()
    """For its torrc, behind ours."""

    @property
    def control(self) -> ControlPlace:
        """Where tor takes control connections."""
        return self.attach_to or self.data_dir / "control"


class DirectoryChanged:
    """tor has a new consensus or new descriptors."""


def torrc(settings: TorSettings, pid: int) -> str:
    """The torrc of a tor that fetches everything that a directory needs, does nothing else and ends with `pid`.

    Microdescriptors have no bandwidths; without FetchUselessDescriptors a client fetches no consensus that lists full
    descriptors; an idle client would stop fetching after a day (DormantTimeoutEnabled).
    """
    lines = [
        f"DataDirectory {_quoted(settings.data_dir)}",
        f"ControlPort {_quoted('unix:' + _quoted(settings.data_dir / 'control'))}",  # ControlSocket takes no blanks
        f"Log {_quoted(f'notice file {settings.data_dir}/notice.log')}",
        "CookieAuthentication 1",
        f"__OwningControllerProcess {pid}",
        "SocksPort 0",
        "ClientOnly 1",
        "UseMicrodescriptors 0",
        "FetchUselessDescriptors 1",
        "DormantTimeoutEnabled 0",
        "DormantCanceledByStartup 1",
        *settings.extra_lines,
    ]
    return "\n".join([*lines, ""])


class TorDirectory:
    """Keeps the tor, and reads the relays out of it when they change.

    On the loop: `on_consensus` is awaited with every reading, `on_failed` gets one line when a reading fails or tor is
    gone; what was read before is still the best there is.
    """

    def __init__(
        self,
        settings: TorSettings,
        *,
        on_consensus: Callable[[Consensus], Awaitable[None]],
        on_failed: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._on_consensus = on_consensus
        self._on_failed = on_failed
        self._up = False
        self._wanted = asyncio.Event()
        self._keeper = TorKeeper(
            [] if settings.attach_to else command(settings),
            settings.control,
            on_event=lambda event: self.refresh(),
            on_up=self._came_up,
            on_lost=self._lost,
            on_failed=self._lost,
            subscription=Subscription(("NEWCONSENSUS", "NEWDESC"), lambda event: DirectoryChanged()),
            name=NAME,
        )

    async def run(self) -> None:
        """Until cancelled; a tor of our own has ended then. Raises LocalError if its torrc cannot be written."""
        stem.response.events.PARSE_NEWCONSENSUS_EVENTS = False  # else stem parses it all in this process
        if self._settings.attach_to is None:
            write_private(_torrc_path(self._settings), torrc(self._settings, os.getpid()).encode())
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keeper.run(), name=NAME)
            group.create_task(self._read_when_wanted(), name="relays from tor")

    def refresh(self) -> None:
        """Read soon, if tor is up; it is read anyway when it comes up."""
        if self._up:
            self._wanted.set()

    def _came_up(self) -> None:
        log.info("the %s is up", NAME)
        self._up = True
        self._wanted.set()

    def _lost(self, reason: str) -> None:
        self._up = False
        self._on_failed(reason)

    async def _read_when_wanted(self) -> None:
        loop = asyncio.get_running_loop()
        rested_s = 0.0
        while True:
            await self._wanted.wait()
            await asyncio.sleep(max(SETTLE_S, rested_s - loop.time()))
            self._wanted.clear()
            began_s = loop.time()
            await self._read()
            rested_s = loop.time() + REST_FACTOR * (loop.time() - began_s)

    async def _read(self) -> None:
        try:
            consensus = await load_consensus_from_tor(self._settings.control)
        except FlashFlowError as error:
            if self._up:  # if it is not, its loss was told, and is the better reason
                self._on_failed(error.reason)
                asyncio.get_running_loop().call_later(RETRY_S, self.refresh)
        else:
            await self._on_consensus(consensus)


def command(settings: TorSettings) -> list[str]:
    """The command line of a tor of our own; no file of the system's counts."""
    files = ["-f", str(_torrc_path(settings)), "--defaults-torrc", str(settings.data_dir / "no-defaults")]
    launch = [sys.executable, "-m", "flashflow.directory.launch"]
    return [*launch, settings.tor_bin, *files, "--ignore-missing-torrc", "--hush"]


def _torrc_path(settings: TorSettings) -> Path:
    return settings.data_dir / "torrc"


def _quoted(value: Path | str) -> str:
    """As torrc takes a value with blanks or `#` in it."""
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
