"""The identities of a far end, as it tells them."""

import json

from flashflow.model.errors import PeerError
from flashflow.torctl.commands import FarEnd, parse_far_end

_FIELDS = ("addr", "fingerprint", "ed25519", "ntor")


def parse_ready(line: str) -> tuple[FarEnd, ...]:
    """The identities in `ready [{"addr", "fingerprint", "ed25519", "ntor"}, ...]`, one or more. PeerError."""
    word, _, text = line.partition(" ")
    try:
        listed = json.loads(text) if word == "ready" else None
        found = tuple(parse_far_end("/".join(str(entry[name]) for name in _FIELDS)) for entry in listed or ())
    except (ValueError, KeyError, TypeError, RecursionError, PeerError) as exc:
        raise PeerError(f"the far end's first line cannot be understood: {line[:100]!r}") from exc
    if not found:
        raise PeerError(f"the far end's first line names no identity: {line[:100]!r}")
    return found
