"""The identities of a far end, as it tells them."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from flashflow.model.errors import PeerError, UsageError
from flashflow.model.ids import Address, Fingerprint, parse_address, parse_fingerprint


@dataclass(frozen=True, slots=True)
class FarEnd:
    """One identity, where the measured relay extends circuits to."""

    address: Address
    """IP address and port."""
    fingerprint: Fingerprint
    """RSA fingerprint."""
    ed25519: bytes
    """Ed25519 identity, 32 bytes."""
    ntor: bytes
    """Ntor onion key, 32 bytes."""

    def word(self) -> str:
        """As an extra of MEASR_START_MEAS."""
        return f"FAREND={self.address}/{self.fingerprint}/{_base64(self.ed25519)}/{_base64(self.ntor)}"


def parse_ready(line: str) -> tuple[FarEnd, ...]:
    """The identities in `ready [{"addr", "fingerprint", "ed25519", "ntor"}, ...]`, one or more. PeerError."""
    word, _, text = line.partition(" ")
    try:
        listed = json.loads(text) if word == "ready" else None
        found = tuple(_parse_one(entry) for entry in listed or ())
    except (ValueError, KeyError, TypeError, RecursionError, UsageError) as exc:
        raise PeerError(f"the far end's first line cannot be understood: {line[:100]!r}") from exc
    if not found:
        raise PeerError(f"the far end's first line names no identity: {line[:100]!r}")
    return found


def _parse_one(entry: Any) -> FarEnd:
    return FarEnd(
        parse_address(entry["addr"]),
        parse_fingerprint(entry["fingerprint"]),
        _key(entry["ed25519"]),
        _key(entry["ntor"]),
    )


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as exc:
        raise ValueError("not base64") from exc
    if len(key) != 32:
        raise ValueError("32 bytes expected")
    return key


def _base64(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii").rstrip("=")
