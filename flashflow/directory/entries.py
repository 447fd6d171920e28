"""One router entry of a consensus, one server descriptor: what FlashFlow needs of them, read by stem.

stem reads an attribute when it is asked for and gives None for a line it cannot read; None here means that the whole
entry is of no use. Numbers and names are checked once more, since they end up in files that others read.
"""

import base64
import binascii
import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from stem.descriptor.router_status_entry import RouterStatusEntryV3
from stem.descriptor.server_descriptor import RelayDescriptor

from flashflow.directory.family import family_keys
from flashflow.model.ids import Address, Fingerprint
from flashflow.model.relay import RelayInfo

_FINGERPRINT = re.compile(r"[0-9A-F]{40}")
_NICKNAME = re.compile(r"[A-Za-z0-9]{1,19}")
_NO_IPV4 = "0.0.0.0"
_LARGEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What FlashFlow needs of a server descriptor."""

    fingerprint: Fingerprint
    """The relay."""
    published: datetime
    """When the relay made it, UTC."""
    ed25519: bytes | None
    """Ed25519 master identity, 32 bytes."""
    ntor_key: bytes | None
    """Curve25519 onion key, 32 bytes."""
    bandwidth_avg_bytes: int | None
    """bandwidth-avg, bytes/s."""
    bandwidth_burst_bytes: int | None
    """bandwidth-burst, bytes/s."""
    bandwidth_observed_bytes: int | None
    """bandwidth-observed, bytes/s."""
    family: tuple[Fingerprint, ...]
    """The relays that it declares as its family by fingerprint, sorted; nicknames are not unique and do not count."""
    family_keys: tuple[bytes, ...]
    """The family keys of which it has certificates, 32 bytes each, sorted."""


def read_descriptor(text: bytes) -> Descriptor | None:
    """The server descriptor in `text` (dir-spec 2.1.1), or None if it says neither whose it is nor from when."""
    try:
        raw = RelayDescriptor(text, validate=False)
        fingerprint = _fingerprint(raw.fingerprint)
        if fingerprint is None or not isinstance(raw.published, datetime):
            return None
        ed25519 = _key(raw.ed25519_master_key)
        return Descriptor(
            fingerprint,
            raw.published,
            ed25519,
            _key(raw.ntor_onion_key),
            _number(raw.average_bandwidth),
            _number(raw.burst_bandwidth),
            _number(raw.observed_bandwidth),
            _family(raw.family),
            family_keys(text, ed25519, raw.published.replace(tzinfo=UTC).timestamp()),
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):  # stem, on lines it does not expect
        return None


def relay_of(entry: bytes, descriptors: Mapping[Fingerprint, Descriptor]) -> RelayInfo | None:
    """The relay of one router entry (dir-spec 3.4.1) with what its descriptor adds, or None if it cannot be read."""
    try:
        raw = RouterStatusEntryV3(entry, validate=False)
        fingerprint = _fingerprint(raw.fingerprint)
        addresses = _addresses(raw)
        if fingerprint is None or not addresses or _NICKNAME.fullmatch(str(raw.nickname)) is None:
            return None
        weight_kb, unmeasured, running = (
            _number(raw.bandwidth),
            bool(raw.is_unmeasured),
            "Running" in raw.flags,
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):  # stem, on lines it does not expect
        return None
    found = descriptors.get(fingerprint)
    return RelayInfo(
        fingerprint=fingerprint,
        nickname=raw.nickname,
        address=addresses[0],
        ed25519=found.ed25519 if found else None,
        ntor_key=found.ntor_key if found else None,
        bandwidth_avg_bytes=found.bandwidth_avg_bytes if found else None,
        bandwidth_burst_bytes=found.bandwidth_burst_bytes if found else None,
        bandwidth_observed_bytes=found.bandwidth_observed_bytes if found else None,
        consensus_weight_kb=weight_kb,
        unmeasured=unmeasured,
        running=running,
        more_addresses=addresses[1:],
        family=found.family if found else (),
        family_keys=found.family_keys if found else (),
    )


def _addresses(raw: Any) -> tuple[Address, ...]:
    """Its OR ports; IPv4 first, and where the entry has 0.0.0.0 for it, the additional ones only."""
    if raw.address is None or raw.or_port is None:
        return ()
    first = [Address(raw.address, raw.or_port)] if raw.address != _NO_IPV4 else []
    more = [Address(host, port) for host, port, is_ipv6 in raw.or_addresses if is_ipv6]
    return tuple(dict.fromkeys([*first, *more]))


def _family(names: Iterable[object]) -> tuple[Fingerprint, ...]:
    """The fingerprints in a family line (dir-spec 2.1.1): `$` and 40 hex digits, perhaps with `=` or `~` and a name."""
    bare = (str(name).removeprefix("$")[:41] for name in names if str(name).startswith("$"))
    found = {_fingerprint(re.split("[=~]", text)[0]) for text in bare}
    return tuple(sorted(fingerprint for fingerprint in found if fingerprint))


def _fingerprint(value: object) -> Fingerprint | None:
    text = str(value).upper()
    return Fingerprint(text) if _FINGERPRINT.fullmatch(text) else None


def _key(value: object) -> bytes | None:
    """32 bytes of base64, with or without padding."""
    with contextlib.suppress(binascii.Error, ValueError):
        key = base64.b64decode(f"{value}=", validate=True) if len(str(value)) == 43 else b""
        key = key or base64.b64decode(str(value), validate=True)
        return key if len(key) == 32 else None
    return None


def _number(value: object) -> int | None:
    return min(value, _LARGEST) if isinstance(value, int) and value >= 0 else None
