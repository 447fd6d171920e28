"""The far end's identities: keys of several relays, as whoever starts a far end hands them to it."""

import json
import sys
from pathlib import Path

from flashflow.model.errors import LocalError
from flashflow.orlink.keys import RelayKeys

MAX_IDENTITIES = 16
STANDARD_INPUT = Path("-")


def encode_identities(identities: list[RelayKeys]) -> bytes:
    """The keys as `read_identities` reads them."""
    return json.dumps([keys.to_json() for keys in identities]).encode()


def read_identities(path: Path) -> list[RelayKeys]:
    """The keys in a file, or on STANDARD_INPUT, at least one. LocalError if they cannot be read."""
    try:
        stored = json.loads(sys.stdin.read() if path == STANDARD_INPUT else path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise LocalError(f"identities {path}: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise LocalError(f"identities {path}: not the JSON that was stored ({exc})") from exc
    if not isinstance(stored, list) or not 1 <= len(stored) <= MAX_IDENTITIES:
        raise LocalError(f"identities {path}: a list of 1 to {MAX_IDENTITIES} relays' keys expected")
    try:
        return [RelayKeys.from_json(text) for text in stored]
    except LocalError as exc:
        raise LocalError(f"identities {path}: {exc.reason}") from exc
