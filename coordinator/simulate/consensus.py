"""The relays of a consensus file, of either flavour, so that the core would measure them.

The keys that a measurement needs are not in a consensus: made-up ones stand in for them. Relays that do not run are
left out.
"""

import asyncio
import hashlib
import logging
from dataclasses import replace
from pathlib import Path

from flashflow.directory.consensus import read_consensus
from flashflow.directory.files import load_consensus
from flashflow.directory.opening import read_bounded
from flashflow.model.errors import LocalError
from flashflow.model.ids import Fingerprint
from flashflow.model.network import Consensus
from flashflow.model.relay import RelayInfo

_log = logging.getLogger(__name__)


def read_network(consensus: Path, descriptors: Path | None = None) -> Consensus:
    """The consensus with its running relays only; `descriptors` tell their families. Raises LocalError.

    Descriptors go with an ordinary consensus only.
    """
    known = asyncio.run(load_consensus(consensus, descriptors)) if descriptors else _read_alone(consensus)
    running = tuple(_with_keys(relay) for relay in known.relays if relay.running)
    if not running:
        raise LocalError(f"{consensus}: lists no relay with the flag Running")
    return Consensus(known.header, running)


def _read_alone(path: Path) -> Consensus:
    warnings: list[str] = []
    found = read_consensus(str(path), read_bounded(path), {}, warnings, microdesc=True)
    for warning in warnings:
        _log.warning("%s", warning)
    return found


def _with_keys(relay: RelayInfo) -> RelayInfo:
    return replace(
        relay,
        ed25519=relay.ed25519 or _made_up_key("ed25519", relay.fingerprint),
        ntor_key=relay.ntor_key or _made_up_key("ntor", relay.fingerprint),
    )


def _made_up_key(kind: str, fingerprint: Fingerprint) -> bytes:
    return hashlib.sha256(f"simulated {kind} key of {fingerprint}".encode()).digest()
