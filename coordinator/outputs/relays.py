"""Reads consensus, descriptors and relay filter; the parsing is done in another process."""

import asyncio
from pathlib import Path

from coordinator.core.events import RelaysFailed, RelaysLoaded
from flashflow.directory.files import load_relays
from flashflow.directory.filter import load_filter
from flashflow.model.errors import FlashFlowError


async def read_relays(
    consensus: Path, descriptors: Path | None, filter_file: Path
) -> RelaysLoaded | RelaysFailed:
    """What the files say now, or why they cannot be read."""
    try:
        relay_filter = await asyncio.to_thread(load_filter, filter_file)
        return RelaysLoaded(await load_relays(consensus, descriptors), relay_filter)
    except FlashFlowError as error:
        return RelaysFailed(error.reason)
