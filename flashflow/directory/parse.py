"""`python -m flashflow.directory.parse CONSENSUS [DESCRIPTORS]`: the relays as JSON lines on stdout.

`… parse --control PATH|HOST:PORT` takes both from a running tor, by its control port. The first line is {"warnings": [...],
"header": {...}}. A file that cannot be used is one line `error: FILE: reason` on stderr and exit
status 1. One entry that cannot be read costs that entry only. Files may be compressed (xz or gzip). Tor keeps fresh
descriptors in a second file beside `cached-descriptors`, with `.new` behind its name: it is read as well.

Signatures are not checked: the texts come from the operator's own tor, which did, and a relay that is not who its
descriptor says fails the link handshake.
"""

import gzip
import itertools
import json
import lzma
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from flashflow.directory.entries import Descriptor, read_descriptor, relay_of
from flashflow.directory.fetch import CONSENSUS_KEY, DESCRIPTORS_KEY, fetch
from flashflow.directory.files import CONTROL_OPTION, relay_to_json
from flashflow.directory.header import header_to_json, read_header
from flashflow.model.errors import LocalError
from flashflow.model.ids import Fingerprint
from flashflow.model.network import Consensus
from flashflow.model.relay import RelayInfo
from flashflow.shell.parent import follow_parent
from flashflow.shell.torcontrol import parse_place

MAX_TEXT_BYTES = 512 << 20
"""Ten times a full network's descriptors; more is another file, or a bomb."""
_VERSION_LINE = b"network-status-version "
_ENTRY = b"r "
"""What a router entry begins with."""


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
    return _consensus(f"{CONSENSUS_KEY} of {place}", consensus, newest, warnings)


def _from_files(consensus: Path, descriptors: Path | None = None, *, warnings: list[str]) -> Consensus:
    newest = _descriptors(descriptors, warnings) if descriptors else {}
    return _consensus(str(consensus), _read(consensus), newest, warnings)


def _consensus(
    name: str, text: bytes, descriptors: dict[Fingerprint, Descriptor], warnings: list[str]
) -> Consensus:
    """The consensus `text`; messages call it `name`."""
    relays: dict[Fingerprint, RelayInfo] = {}
    skipped = 0
    lines = _lines(name, text)
    for entry in _split(lines, _ENTRY):
        relay = relay_of(entry, descriptors)
        if relay is None or relay.fingerprint in relays:
            skipped += 1
        else:
            relays[relay.fingerprint] = relay
    if skipped:
        warnings.append(f"{name}: {skipped} router entries cannot be read and are left out")
    if skipped and not relays:
        raise LocalError(f"{name}: none of its {skipped} router entries can be read")
    header = itertools.takewhile(lambda line: not line.startswith(_ENTRY), lines)
    return Consensus(read_header(list(header)), tuple(relays[fingerprint] for fingerprint in sorted(relays)))


def _lines(name: str, text: bytes) -> list[bytes]:
    """The lines of a consensus, header and router entries. Raises LocalError for anything else and for one that is cut off."""
    lines = text.splitlines(keepends=True)
    start = next((place for place, line in enumerate(lines) if not line.startswith(b"@")), len(lines))
    if start == len(lines) or not lines[start].startswith(_VERSION_LINE):
        raise LocalError(
            f"{name}: not a consensus: expected it to begin with {_VERSION_LINE.decode().strip()}"
        )
    version = lines[start].split()[1:]
    if b"microdesc" in version:
        reason = "expected the consensus with full descriptors (set UseMicrodescriptors 0 in the torrc of that tor)"
        raise LocalError(f"{name}: is a microdescriptor consensus; {reason}")
    if version[:1] != [b"3"]:
        raise LocalError(f"{name}: expected a consensus of version 3")
    footer = next((place for place, line in enumerate(lines) if line.rstrip() == b"directory-footer"), None)
    if footer is None:
        raise LocalError(f"{name}: damaged: the consensus is cut off, it has no directory-footer")
    return lines[start:footer]


def _descriptors(path: Path, warnings: list[str]) -> dict[Fingerprint, Descriptor]:
    """The newest descriptor of each relay in `path` and, if there is one, `path`.new."""
    newer = path.with_name(f"{path.name}.new")
    newest: dict[Fingerprint, Descriptor] = {}
    for file in (path, *([newer] if newer.is_file() else [])):
        count, skipped = _add_descriptors(str(file), _read(file), newest, warnings)
        if count == skipped and (count or file is path):
            raise LocalError(f"{file}: expected server descriptors, found none that can be read")
    return newest


def _add_descriptors(
    name: str, text: bytes, newest: dict[Fingerprint, Descriptor], warnings: list[str]
) -> tuple[int, int]:
    """Take those in `text` into `newest`, if they are newer; how many there are, and how many cannot be read."""
    count = skipped = 0
    for block in _split(text.splitlines(keepends=True), b"router "):
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


def _split(lines: list[bytes], keyword: bytes) -> Iterator[bytes]:
    """Blocks that begin with a line of `keyword`; what stands before the first is left out."""
    starts = [place for place, line in enumerate(lines) if line.startswith(keyword)]
    for start, end in itertools.pairwise([*starts, len(lines)]):
        yield b"".join(line for line in lines[start:end] if not line.startswith(b"@"))


def _read(path: Path) -> bytes:
    """The text in the file at `path`, decompressed."""
    try:
        with path.open("rb") as file:
            magic = file.read(6)
        opener = lzma.open if magic == b"\xfd7zXZ\0" else gzip.open if magic[:2] == b"\x1f\x8b" else open
        with opener(path, "rb") as stream:
            text = stream.read(MAX_TEXT_BYTES + 1)
    except (lzma.LZMAError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise LocalError(f"{path}: damaged: cannot be decompressed: {error}") from None
    except OSError as error:
        raise LocalError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(text) > MAX_TEXT_BYTES:
        raise LocalError(f"{path}: larger than {MAX_TEXT_BYTES} bytes, which no Tor network needs")
    return bytes(text)


if __name__ == "__main__":
    follow_parent()
    sys.exit(main(sys.argv[1:]))
