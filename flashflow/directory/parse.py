"""`python -m flashflow.directory.parse CONSENSUS [DESCRIPTORS]`: the relays as JSON lines on stdout.

`… parse --control PATH|HOST:PORT` takes both from a running tor, by its control port. The first line is {"warnings": [...],
"header": {...}}. A file that cannot be used is one line `error: FILE: reason` on stderr and exit
status 1. One entry that cannot be read costs that entry only. Files may be compressed (xz, gzip, zstd). Tor keeps fresh
descriptors in a second file beside `cached-descriptors`, with `.new` behind its name: it is read as well.

Signatures are not checked: the texts come from the operator's own tor, which did, and a relay that is not who its
descriptor says fails the link handshake.
"""

import json
import sys
from pathlib import Path

from flashflow.directory.consensus import read_consensus, split_entries
from flashflow.directory.entries import Descriptor, read_descriptor
from flashflow.directory.fetch import CONSENSUS_KEY, DESCRIPTORS_KEY, fetch
from flashflow.directory.files import CONTROL_OPTION, relay_to_json
from flashflow.directory.header import header_to_json
from flashflow.directory.opening import read_bounded
from flashflow.model.errors import LocalError
from flashflow.model.ids import Fingerprint
from flashflow.model.network import Consensus
from flashflow.shell.parent import follow_parent
from flashflow.shell.torcontrol import parse_place


def main(arguments: list[str]) -> int:
    """Print the relays of the files named; give the exit status."""
    warnings: list[str] = []
    try:
        if arguments[0] == CONTROL_OPTION:
            consensus = _from_tor(arguments[1], warnings)
        else:
            consensus = _from_files(*(Path(argument) for argument in arguments), warnings=warnings)
    except LocalError as error:
        print(f"error: {error.reason}", file=sys.stderr)
        return 1
    print(json.dumps({"warnings": warnings, "header": header_to_json(consensus.header)}))
    for relay in consensus.relays:
        print(json.dumps(relay_to_json(relay)))
    return 0


def _from_tor(place: str, warnings: list[str]) -> Consensus:
    consensus, descriptors = fetch(parse_place(place))
    newest: dict[Fingerprint, Descriptor] = {}
    _add_descriptors(f"{DESCRIPTORS_KEY} of {place}", descriptors, newest, warnings)
    return read_consensus(f"{CONSENSUS_KEY} of {place}", consensus, newest, warnings)


def _from_files(consensus: Path, descriptors: Path | None = None, *, warnings: list[str]) -> Consensus:
    newest = _descriptors(descriptors, warnings) if descriptors else {}
    return read_consensus(str(consensus), read_bounded(consensus), newest, warnings)


def _descriptors(path: Path, warnings: list[str]) -> dict[Fingerprint, Descriptor]:
    """The newest descriptor of each relay in `path` and, if there is one, `path`.new."""
    newer = path.with_name(f"{path.name}.new")
    newest: dict[Fingerprint, Descriptor] = {}
    for file in (path, *([newer] if newer.is_file() else [])):
        count, skipped = _add_descriptors(str(file), read_bounded(file), newest, warnings)
        if count == skipped and (count or file is path):
            raise LocalError(f"{file}: expected server descriptors, found none that can be read")
    return newest


def _add_descriptors(
    name: str, text: bytes, newest: dict[Fingerprint, Descriptor], warnings: list[str]
) -> tuple[int, int]:
    """Take those in `text` into `newest`, if they are newer; how many there are, and how many cannot be read."""
    count = skipped = 0
    for block in split_entries(text.splitlines(keepends=True), b"router "):
        descriptor = read_descriptor(block)
        count += 1
        if descriptor is None:
            skipped += 1
            continue
        known = newest.get(descriptor.fingerprint)
        if known is None or known.published <= descriptor.published:
            newest[descriptor.fingerprint] = descriptor
    if skipped:
        warnings.append(f"{name}: {skipped} server descriptors cannot be read and are left out")
    return count, skipped


if __name__ == "__main__":
    follow_parent()
    sys.exit(main(sys.argv[1:]))
