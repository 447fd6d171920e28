"""A consensus and server descriptors, in files or in a running tor, read in a process of its own."""

import asyncio
import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

from flashflow.directory.header import header_from_json
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address, Fingerprint
from flashflow.model.network import Consensus
from flashflow.model.relay import RelayInfo
from flashflow.shell.parent import child_environment
from flashflow.shell.torcontrol import ControlPlace

CONTROL_OPTION = "--control"
"""Of the process: before the place of a control port."""
PARSE_TIMEOUT_S = 120.0
"""A full network takes seconds; longer than this and the files are something else."""
MAX_OUTPUT_BYTES = 64 << 20
"""Most bytes taken from the process: a line of about 400 bytes for each relay."""
LINES_AT_ONCE = 200
"""Of the process's output, before the loop gets its turn."""

_log = logging.getLogger(__name__)


async def load_relays(consensus: Path, descriptors: Path | None) -> tuple[RelayInfo, ...]:
    """The relays of `load_consensus`, which says more."""
    return (await load_consensus(consensus, descriptors)).relays


async def load_consensus(consensus: Path, descriptors: Path | None) -> Consensus:
    """The consensus, its relays by fingerprint with keys and bandwidths of their descriptors where known.

    Entries that cannot be read are left out, with a warning in the log. Raises LocalError that names the file if a
    file is missing, damaged or no consensus. Must run on the main thread's loop, which parents the process.
    """
    paths = [str(path) for path in (consensus, descriptors) if path is not None]
    return await _run(str(consensus), paths)


async def load_consensus_from_tor(place: ControlPlace) -> Consensus:
    """The same from the tor whose control port is at `place`. Raises LocalError, also if it has no consensus yet."""
    return await _run(f"tor at {place}", [CONTROL_OPTION, str(place)])


async def _run(source: str, arguments: list[str]) -> Consensus:
    """What the process says of `source`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "flashflow.directory.parse",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(),
    )
    try:
        async with asyncio.timeout(PARSE_TIMEOUT_S):
            output, errors = await asyncio.gather(_read(process.stdout), _read(process.stderr))
            status = await process.wait()
    except TimeoutError:
        raise LocalError(f"{source}: not read within {PARSE_TIMEOUT_S:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if status != 0:
        raise _failed(source, errors, status)
    return await _consensus(source, output)


async def _read(pipe: asyncio.StreamReader | None) -> bytes:
    assert pipe is not None
    chunks = bytearray()
    while chunk := await pipe.read(1 << 20):
        chunks += chunk
        if len(chunks) > MAX_OUTPUT_BYTES:
            raise LocalError("the consensus lists more relays than any Tor network has")
    return bytes(chunks)


def _failed(source: str, errors: bytes, status: int) -> LocalError:
    """The reason is the last line of stderr; the process itself names the file, unless it died."""
    last = errors.decode(errors="replace").strip().rpartition("\n")[2]
    if status == 1 and last.startswith("error: "):
        return LocalError(last.removeprefix("error: "))
    return LocalError(f"{source}: the process that reads it ended with status {status}: {last[:300]}")


async def _consensus(source: str, output: bytes) -> Consensus:
    """Other work of the loop goes on in between: it is a quarter of a second's work for the whole network."""
    lines = output.splitlines()
    if not lines:
        raise LocalError(f"{source}: the process that reads it said nothing")
    first = json.loads(lines[0])
    for warning in first["warnings"]:
        _log.warning("%s", warning)
    relays = []
    for number, line in enumerate(lines[1:]):
        relays.append(relay_from_json(json.loads(line)))
        if number % LINES_AT_ONCE == 0:
            await asyncio.sleep(0)
    return Consensus(header_from_json(first["header"]), tuple(relays))


def relay_to_json(relay: RelayInfo) -> dict[str, Any]:
    """What `relay_from_json` reads; keys as hex."""
    return {
        "fingerprint": relay.fingerprint,
        "nickname": relay.nickname,
        "address": list(relay.address),
        "more_addresses": [list(address) for address in relay.more_addresses],
        "ed25519": relay.ed25519.hex() if relay.ed25519 else None,
        "ntor_key": relay.ntor_key.hex() if relay.ntor_key else None,
        "bandwidth_avg_bytes": relay.bandwidth_avg_bytes,
        "bandwidth_burst_bytes": relay.bandwidth_burst_bytes,
        "bandwidth_observed_bytes": relay.bandwidth_observed_bytes,
        "consensus_weight_kb": relay.consensus_weight_kb,
        "unmeasured": relay.unmeasured,
        "family": list(relay.family),
        "family_keys": [key.hex() for key in relay.family_keys],
        "running": relay.running,
    }


def relay_from_json(entry: dict[str, Any]) -> RelayInfo:
    """The relay of one line of our own process's output."""
    return RelayInfo(
        fingerprint=Fingerprint(entry["fingerprint"]),
        nickname=entry["nickname"],
        address=Address(*entry["address"]),
        more_addresses=tuple(Address(*address) for address in entry["more_addresses"]),
        ed25519=bytes.fromhex(entry["ed25519"]) if entry["ed25519"] else None,
        ntor_key=bytes.fromhex(entry["ntor_key"]) if entry["ntor_key"] else None,
        bandwidth_avg_bytes=entry["bandwidth_avg_bytes"],
        bandwidth_burst_bytes=entry["bandwidth_burst_bytes"],
        bandwidth_observed_bytes=entry["bandwidth_observed_bytes"],
        consensus_weight_kb=entry["consensus_weight_kb"],
        unmeasured=entry["unmeasured"],
        family=tuple(Fingerprint(member) for member in entry["family"]),
        family_keys=tuple(bytes.fromhex(key) for key in entry["family_keys"]),
        running=entry["running"],
    )
