"""The lines of a consensus before its first relay (dir-spec 3.4.1): when it is valid, parameters, shared randomness.

A line, or a parameter, that cannot be read is as good as absent.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from flashflow.model.network import ConsensusHeader

MAX_PARAMS = 1000
"""More than this no consensus sets."""
_PARAM = re.compile(rb"([A-Za-z0-9_-]{1,64})=(-?[0-9]{1,10})")
_INT32 = range(-(2**31), 2**31)


def read_header(lines: Sequence[bytes]) -> ConsensusHeader:
    """The header in `lines`."""
    words = {parts[0]: parts[1:] for parts in (line.split() for line in reversed(lines)) if parts}
    return ConsensusHeader(
        _utc_s(words.get(b"valid-after", [])),
        _params(words.get(b"params", [])),
        _random(words.get(b"shared-rand-current-value", [])),
        _random(words.get(b"shared-rand-previous-value", [])),
    )


def header_to_json(header: ConsensusHeader) -> dict[str, Any]:
    """What `header_from_json` reads; values as hex."""
    current, previous = header.shared_random_current, header.shared_random_previous
    return {
        "valid_after_utc_s": header.valid_after_utc_s,
        "params": dict(header.params),
        "shared_random_current": current.hex() if current else None,
        "shared_random_previous": previous.hex() if previous else None,
    }


def header_from_json(entry: Mapping[str, Any]) -> ConsensusHeader:
    """The header of our own process's output."""
    current, previous = entry["shared_random_current"], entry["shared_random_previous"]
    return ConsensusHeader(
        entry["valid_after_utc_s"],
        entry["params"],
        bytes.fromhex(current) if current else None,
        bytes.fromhex(previous) if previous else None,
    )


def _utc_s(words: Sequence[bytes]) -> float:
    try:
        stamp = datetime.strptime(f"{b' '.join(words).decode('ascii')} +0000", "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return 0.0
    return stamp.timestamp()


def _params(words: Sequence[bytes]) -> dict[str, int]:
    found = [match for word in words[:MAX_PARAMS] if (match := _PARAM.fullmatch(word))]
    return {match[1].decode(): int(match[2]) for match in found if int(match[2]) in _INT32}


def _random(words: Sequence[bytes]) -> bytes | None:
    """`NumReveals Value`: 32 bytes in base64."""
    try:
        value = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error, ValueError):
        return None
    return value if len(value) == 32 else None
