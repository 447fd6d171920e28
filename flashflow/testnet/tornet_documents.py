"""What a directory authority of a private network serves: its consensus and the v3bw file that it voted by."""

import http.client
import io
from contextlib import closing
from dataclasses import dataclass

import stem.descriptor

from flashflow.model.ids import Address, Fingerprint

CONSENSUS_PATH = "/tor/status-vote/current/consensus"
BANDWIDTH_PATH = "/tor/status-vote/next/bandwidth"
"""The v3bw file as it was at the last vote (dir-spec 4.4)."""
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ConsensusEntry:
    """One relay of a consensus."""

    nickname: str
    """Its nickname."""
    running: bool
    """Whether it has the Running flag."""
    weight_kb: int
    """`w Bandwidth=`, which clients choose by: units of 1000 bytes/s."""
    unmeasured: bool
    """`Unmeasured=1`: the weight is no measurement's."""


def fetch(directory: Address, path: str) -> bytes | None:
    """A document from an authority's directory port; None if it has it not, or not yet."""
    try:
        with closing(http.client.HTTPConnection(*directory, timeout=TIMEOUT_S)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read() if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None


def consensus_entries(text: bytes) -> dict[Fingerprint, ConsensusEntry]:
    """The relays of a consensus of one of our own authorities."""
    kind = "network-status-consensus-3 1.0"
    return {
        Fingerprint(entry.fingerprint): ConsensusEntry(
            nickname=entry.nickname,
            running="Running" in entry.flags,
            weight_kb=entry.bandwidth or 0,
            unmeasured=bool(entry.is_unmeasured),
        )
        for entry in stem.descriptor.parse_file(io.BytesIO(text), kind)
    }
