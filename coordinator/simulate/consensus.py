"""The relays of a consensus file, of either flavour, so that the core would measure them.

The keys that a measurement needs are not in a consensus: made-up ones stand in for them. Relays that do not run are
left out.
"""

import asyncio
import hashlib
import itertools
import logging
from dataclasses import replace
from pathlib import Path

from flashflow.directory.entries import relay_of
from flashflow.directory.files import load_consensus
from flashflow.directory.header import read_header
from flashflow.directory.opening import read_bounded
from flashflow.model.errors import LocalError
from flashflow.model.ids import Fingerprint
from flashflow.model.network import Consensus, ConsensusHeader
from flashflow.model.relay import RelayInfo

_FIRST_WORD = b"network-status-version"
_NO_DIGEST = b"A" * 27
"""Stands for a descriptor's digest, which entries of a microdescriptor consensus lack and nothing here reads."""

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
    header, entries = _split(path)
    relays: dict[Fingerprint, RelayInfo] = {}
    skipped = 0
    for entry in entries:
        relay = relay_of(entry, {})
        if relay is None or relay.fingerprint in relays:
            skipped += 1
        else:
            relays[relay.fingerprint] = relay
    if skipped and not relays:
        raise LocalError(f"{path}: damaged: none of its {skipped} router entries can be read")
    if skipped:
        _log.warning("%s: %d router entries cannot be read and are left out", path, skipped)
    return Consensus(header, tuple(relays[fingerprint] for fingerprint in sorted(relays)))


def _split(path: Path) -> tuple[ConsensusHeader, list[bytes]]:
    """The header and the router entries, in the form of an ordinary consensus. Raises LocalError for other files."""
    lines = read_bounded(path).splitlines(keepends=True)
    start = next((place for place, line in enumerate(lines) if not line.startswith(b"@")), 0)
    version = lines[start].split()[:3] if lines else []
    if version[:1] != [_FIRST_WORD]:
        raise LocalError(f"{path}: not a consensus: expected it to begin with {_FIRST_WORD.decode()}")
    if version[1:] not in ([b"3"], [b"3", b"microdesc"]):
        raise LocalError(f"{path}: expected a consensus of version 3")
    footer = next((place for place, line in enumerate(lines) if line.rstrip() == b"directory-footer"), None)
    if footer is None:
        raise LocalError(f"{path}: damaged: the consensus is cut off, it has no directory-footer")
    starts = [place for place in range(start, footer) if lines[place].startswith(b"r ")]
    if version[2:]:
        lines = [_with_digest(line) if line.startswith(b"r ") else line for line in lines]
    entries = [b"".join(lines[first:end]) for first, end in itertools.pairwise([*starts, footer])]
    return read_header(lines[start : min([*starts, footer])]), entries


def _with_digest(line: bytes) -> bytes:
    """An `r` line of a microdescriptor consensus as an ordinary one has it (dir-spec 3.4.1 and 3.9.2)."""
    words = line.split(b" ")
    return b" ".join([*words[:3], _NO_DIGEST, *words[3:]])


def _with_keys(relay: RelayInfo) -> RelayInfo:
    return replace(
        relay,
        ed25519=relay.ed25519 or _made_up_key("ed25519", relay.fingerprint),
        ntor_key=relay.ntor_key or _made_up_key("ntor", relay.fingerprint),
    )


def _made_up_key(kind: str, fingerprint: Fingerprint) -> bytes:
    return hashlib.sha256(f"simulated {kind} key of {fingerprint}".encode()).digest()
