"""The text of a consensus: header and router entries (dir-spec 3.4.1). One entry that cannot be read costs that entry only."""

import itertools
from collections.abc import Iterator

from flashflow.directory.entries import Descriptor, relay_of
from flashflow.directory.header import read_header
from flashflow.model.errors import LocalError
from flashflow.model.ids import Fingerprint
from flashflow.model.network import Consensus
from flashflow.model.relay import RelayInfo

_FIRST_WORD = b"network-status-version"
_ENTRY = b"r "
"""What a router entry begins with."""
_FLAGS = b"s"
"""The keyword of the line that each has just once."""
_NO_DIGEST = b"A" * 27
"""Stands for a descriptor's digest, which entries of a microdescriptor consensus lack and nothing here reads."""


def read_consensus(
    name: str,
    text: bytes,
    descriptors: dict[Fingerprint, Descriptor],
    warnings: list[str],
    *,
    microdesc: bool = False,
) -> Consensus:
    """The consensus `text`, with `microdesc` of either flavour; messages call it `name`. Raises LocalError."""
    relays: dict[Fingerprint, RelayInfo] = {}
    lines = _lines(name, text, microdesc=microdesc)
    header = list(itertools.takewhile(lambda line: not line.startswith(_ENTRY), lines))
    skipped = _entries_in(header)
    for entry in split_entries(lines, _ENTRY):
        together = _entries_in(entry.splitlines())
        relay = relay_of(entry, descriptors) if together <= 1 else None
        if relay is None or relay.fingerprint in relays:
            skipped += max(1, together)
        else:
            relays[relay.fingerprint] = relay
    if skipped:
        warnings.append(f"{name}: {skipped} router entries cannot be read and are left out")
    if skipped > len(relays):  # a file that is damaged is no smaller network
        total = skipped + len(relays)
        raise LocalError(f"{name}: damaged: {skipped} of its {total} router entries cannot be read")
    return Consensus(read_header(header), tuple(relays[fingerprint] for fingerprint in sorted(relays)))


def _entries_in(lines: list[bytes]) -> int:
    """How many entries these lines are of: each has one of flags, and one that lost its first line seems to be part of
    the entry, or of the header, before it."""
    return sum(line.split(maxsplit=1)[:1] == [_FLAGS] for line in lines)


def _lines(name: str, text: bytes, *, microdesc: bool) -> list[bytes]:
    """The lines of a consensus, header and router entries. Raises LocalError for anything else and for one that is cut off."""
    lines = text.splitlines(keepends=True)
    start = next((place for place, line in enumerate(lines) if not line.startswith(b"@")), len(lines))
    version = lines[start].split() if start < len(lines) else []
    if version[:1] != [_FIRST_WORD]:
        raise LocalError(f"{name}: not a consensus: expected it to begin with {_FIRST_WORD.decode()}")
    if version[1:] == [b"3", b"microdesc"] and not microdesc:
        reason = "expected the consensus with full descriptors (set UseMicrodescriptors 0 in the torrc of that tor)"
        raise LocalError(f"{name}: is a microdescriptor consensus; {reason}")
    if version[1:] not in ([b"3"], [b"3", b"microdesc"]):
        raise LocalError(f"{name}: expected a consensus of version 3")
    footer = next((place for place, line in enumerate(lines) if line.rstrip() == b"directory-footer"), None)
    if footer is None:
        raise LocalError(f"{name}: damaged: the consensus is cut off, it has no directory-footer")
    found = lines[start:footer]
    return [_with_digest(line) for line in found] if b"microdesc" in version else found


def _with_digest(line: bytes) -> bytes:
    """An `r` line of a microdescriptor consensus as an ordinary one has it (dir-spec 3.4.1 and 3.9.2)."""
    if not line.startswith(_ENTRY):
        return line
    words = line.split(b" ")
    return b" ".join([*words[:3], _NO_DIGEST, *words[3:]])


def split_entries(lines: list[bytes], keyword: bytes) -> Iterator[bytes]:
    """Blocks that begin with a line of `keyword`; what stands before the first is left out."""
    starts = [place for place, line in enumerate(lines) if line.startswith(keyword)]
    for start, end in itertools.pairwise([*starts, len(lines)]):
        yield b"".join(line for line in lines[start:end] if not line.startswith(b"@"))
