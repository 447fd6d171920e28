"""Consensus and descriptor files for tests of the directory."""

import base64
import functools
from pathlib import Path

from flashflow.orlink.descriptor import build_server_descriptor
from flashflow.orlink.keys import RelayKeys

VECTORS = Path(__file__).parents[1] / "vectors" / "directory"
EXCERPT = VECTORS / "consensus-excerpt"
"""Eleven relays of the public network's consensus of 2020-03-05 10:00 UTC, contacts and all but one signature cut."""
PUBLISHED_UTC_S = 1_583_400_000.0
HEAD = "network-status-version 3\nvote-status consensus\nvalid-after 2020-03-05 10:00:00\n"
FOOT = "directory-footer\nbandwidth-weights Wbd=0\n"


@functools.cache
def relay_keys(number: int) -> RelayKeys:
    """The keys of test relay `number`, the same for a whole run."""
    return RelayKeys.generate()


def fingerprint_of(number: int) -> str:
    """Test relay `number`, 40 upper-case hex digits."""
    return relay_keys(number).identity.rsa_fingerprint.hex().upper()


def descriptor_of(number: int, published_utc_s: float = PUBLISHED_UTC_S, average: int = 5_000_000) -> str:
    """A server descriptor of test relay `number`."""
    return build_server_descriptor(
        relay_keys(number),
        nickname=f"test{number}",
        address="127.0.0.1",
        or_port=9000 + number,
        bandwidth_avg=average,
        bandwidth_burst=6_000_000,
        bandwidth_observed=1_000_000,
        published_utc_s=published_utc_s,
    )


def entry_of(number: int, address: str = "127.0.0.1", more: str = "", flags: str = "Running Valid") -> str:
    """The router entry of test relay `number`; `more` are lines behind the first."""
    identity = base64.b64encode(relay_keys(number).identity.rsa_fingerprint).decode().rstrip("=")
    first = f"r test{number} {identity} {'A' * 27} 2020-03-05 09:20:00 {address} {9000 + number} 0\n"
    return f"{first}{more}s {flags}\nw Bandwidth={number}\n"


def consensus_of(*entries: str) -> str:
    """A consensus of these router entries."""
    return HEAD + "".join(entries) + FOOT
