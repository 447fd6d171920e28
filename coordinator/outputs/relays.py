"""Where the coordinator knows relays from: answers LoadRelays with RelaysLoaded or RelaysFailed."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from coordinator.core.events import RelaysFailed, RelaysLoaded
from flashflow.config.coord import CoordConfig
from flashflow.directory.files import load_consensus
from flashflow.directory.filter import load_filter
from flashflow.directory.tor import TorDirectory, TorSettings
from flashflow.model.errors import FlashFlowError
from flashflow.model.network import Consensus
from flashflow.shell.tasks import TaskGroupOfNamed

Post = Callable[[RelaysLoaded | RelaysFailed], None]


class RelaySource(Protocol):
    """What both sources have."""

    async def run(self) -> None:
        """Until cancelled, or for ever if there is nothing to keep running."""
        ...

    def load(self) -> None:
        """Read relays and filter anew."""
        ...


def relay_source(config: CoordConfig, tasks: TaskGroupOfNamed, post: Post) -> RelaySource:
    """The source that the configuration names."""
    if config.directory_source == "tor":
        return TorSource(config, post)
    return FileSource(config, tasks, post)


class FileSource:
    """A consensus file and one of descriptors."""

    def __init__(self, config: CoordConfig, tasks: TaskGroupOfNamed, post: Post) -> None:
        self._config = config
        self._tasks = tasks
        self._post = post

    async def run(self) -> None:
        """Nothing runs between two readings."""

    def load(self) -> None:
        """Read the three files in the background."""
        self._tasks.start("load relays", self._load())

    async def _load(self) -> None:
        consensus = self._config.consensus
        assert consensus is not None  # load_coord refuses a file without one
        try:
            loaded = await load_consensus(consensus, self._config.descriptors)
        except FlashFlowError as error:
            self._post(RelaysFailed(error.reason))
        else:
            self._post(await with_filter(loaded, self._config.relay_filter))


class TorSource:
    """A stock tor; relays are read anew whenever it has a new consensus or new descriptors."""

    def __init__(self, config: CoordConfig, post: Post) -> None:
        self._filter = config.relay_filter
        self._post = post
        self._tor = TorDirectory(
            TorSettings(
                attach_to=config.directory_control,
                tor_bin=config.directory_tor_bin,
                data_dir=config.directory_tor_datadir,
                extra_lines=config.directory_torrc_extra_lines,
            ),
            on_consensus=self._loaded,
            on_failed=lambda reason: post(RelaysFailed(reason)),
        )

    async def run(self) -> None:
        """Keep the tor running until cancelled."""
        await self._tor.run()

    def load(self) -> None:
        """Read soon."""
        self._tor.refresh()

    async def _loaded(self, consensus: Consensus) -> None:
        self._post(await with_filter(consensus, self._filter))


async def with_filter(consensus: Consensus, filter_file: Path) -> RelaysLoaded | RelaysFailed:
    """The consensus with the filter as the file has it now, or why that cannot be read."""
    try:
        relay_filter = await asyncio.to_thread(load_filter, filter_file)
        return RelaysLoaded(consensus.relays, relay_filter, consensus.header)
    except FlashFlowError as error:
        return RelaysFailed(error.reason)
