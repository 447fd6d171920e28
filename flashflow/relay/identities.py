"""The far end's identities: keys of several relays in one file."""

import json
from pathlib import Path

from flashflow.model.errors import LocalError
from flashflow.orlink.keys import RelayKeys
from flashflow.shell.files import write_private

MAX_IDENTITIES = 16


def write_identities(path: Path, identities: list[RelayKeys]) -> None:
    """Stores the keys, mode 0600, whole or not at all. LocalError if that fails."""
    write_private(path, json.dumps([keys.to_json() for keys in identities]).encode())


def read_identities(path: Path) -> list[RelayKeys]:
    """The keys that `write_identities` stored, at least one. LocalError if they cannot be read."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
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
