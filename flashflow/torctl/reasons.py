"""What a REASON of a CIRC or FF_MEAS event means: whose fault it is, and in words."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from flashflow.model.errors import ErrorKind


class Reason(StrEnum):
    """Every REASON that `flashflow torclient` gives."""

    CERTS_INVALID = "CERTS_INVALID"
    CIRCUIT_REFUSED = "CIRCUIT_REFUSED"
    DESTROY_CHANNEL_CLOSED = "DESTROY_CHANNEL_CLOSED"
    DESTROY_HIBERNATING = "DESTROY_HIBERNATING"
    DESTROY_INTERNAL = "DESTROY_INTERNAL"
    DESTROY_PROTOCOL = "DESTROY_PROTOCOL"
    DESTROY_RESOURCELIMIT = "DESTROY_RESOURCELIMIT"
    ECHO_INVENTED = "ECHO_INVENTED"
    ECHO_WRONG = "ECHO_WRONG"
    EXTEND_REFUSED = "EXTEND_REFUSED"
    FAR_END_INVALID = "FAR_END_INVALID"
    LINK_FAILED = "LINK_FAILED"
    NOT_SUPPORTED = "NOT_SUPPORTED"
    NTOR_FAILED = "NTOR_FAILED"
    REFUSED_BAD_PARAMS = "REFUSED_BAD_PARAMS"
    REFUSED_BAD_TOKEN = "REFUSED_BAD_TOKEN"
    REFUSED_BAD_VERSION = "REFUSED_BAD_VERSION"
    REFUSED_BUSY = "REFUSED_BUSY"
    REFUSED_NOT_TRUSTED = "REFUSED_NOT_TRUSTED"
    REFUSED_OTHER = "REFUSED_OTHER"
    REFUSED_TOO_MANY = "REFUSED_TOO_MANY"
    RELAY_CLOSED = "RELAY_CLOSED"
    RELAY_PROTOCOL = "RELAY_PROTOCOL"
    STOPPED = "STOPPED"
    TIMEOUT = "TIMEOUT"
    TOO_FEW_CIRCUITS = "TOO_FEW_CIRCUITS"
    WORKER_LOST = "WORKER_LOST"


REASONS: Final[Mapping[Reason, tuple[ErrorKind, str]]] = {
    Reason.CERTS_INVALID: (ErrorKind.PEER, "the relay does not prove the expected identity"),
    Reason.CIRCUIT_REFUSED: (ErrorKind.PEER, "the relay refused to create a circuit"),
    Reason.DESTROY_CHANNEL_CLOSED: (
        ErrorKind.NETWORK,
        "the relay destroyed circuits: its connection to the far end closed",
    ),
    Reason.DESTROY_HIBERNATING: (ErrorKind.PEER, "the relay destroyed circuits: it hibernates"),
    Reason.DESTROY_INTERNAL: (ErrorKind.PEER, "the relay destroyed circuits: an error of its own"),
    Reason.DESTROY_PROTOCOL: (ErrorKind.PEER, "the relay destroyed circuits: a cell it did not like"),
    Reason.DESTROY_RESOURCELIMIT: (
        ErrorKind.PEER,
        "the relay destroyed circuits: out of memory or of room in its queues",
    ),
    Reason.ECHO_INVENTED: (ErrorKind.PEER, "the relay sent back more cells than it was sent"),
    Reason.ECHO_WRONG: (
        ErrorKind.PEER,
        "the relay sent back a cell that is not what it had to make of the one it was sent",
    ),
    Reason.EXTEND_REFUSED: (ErrorKind.NETWORK, "the relay did not extend a circuit to the far end"),
    Reason.FAR_END_INVALID: (ErrorKind.PEER, "what answered for the far end does not own its ntor key"),
    Reason.LINK_FAILED: (
        ErrorKind.NETWORK,
        "no connection to the relay: it refused or closed it, or it broke",
    ),
    Reason.NOT_SUPPORTED: (ErrorKind.PEER, "the relay does not answer MEAS_PARAMS: no FlashFlow support"),
    Reason.NTOR_FAILED: (ErrorKind.PEER, "the relay does not own the expected ntor key"),
    Reason.REFUSED_BAD_PARAMS: (ErrorKind.PEER, "the relay refused the parameters"),
    Reason.REFUSED_BAD_TOKEN: (ErrorKind.PEER, "the relay did not accept the measurer's token"),
    Reason.REFUSED_BAD_VERSION: (ErrorKind.PEER, "the relay speaks another version of FlashFlow"),
    Reason.REFUSED_BUSY: (ErrorKind.PEER, "the relay is being measured already"),
    Reason.REFUSED_NOT_TRUSTED: (ErrorKind.PEER, "the relay does not trust this coordinator's certificate"),
    Reason.REFUSED_OTHER: (ErrorKind.PEER, "the relay refused or ended the measurement"),
    Reason.REFUSED_TOO_MANY: (ErrorKind.PEER, "the relay admits no more measurements in this period"),
    Reason.RELAY_CLOSED: (ErrorKind.PEER, "the relay closed more than a second before the end"),
    Reason.RELAY_PROTOCOL: (ErrorKind.PEER, "the relay broke the measurement protocol"),
    Reason.STOPPED: (ErrorKind.LOCAL, "stopped by the controller"),
    Reason.TIMEOUT: (ErrorKind.NETWORK, "a step took too long"),
    Reason.TOO_FEW_CIRCUITS: (ErrorKind.NETWORK, "fewer than half of the circuits could be built"),
    Reason.WORKER_LOST: (ErrorKind.LOCAL, "a worker process of torclient died"),
}
"""Reason -> whose fault, and one line."""


FORGERIES: Final = frozenset({Reason.ECHO_INVENTED, Reason.ECHO_WRONG})
"""Reasons that prove that cells were forged."""


_DESTROYED: Final[Mapping[int, Reason]] = {
    1: Reason.DESTROY_PROTOCOL,
    2: Reason.DESTROY_INTERNAL,
    4: Reason.DESTROY_HIBERNATING,
    5: Reason.DESTROY_RESOURCELIMIT,
    8: Reason.DESTROY_CHANNEL_CLOSED,
}


def destroy_reason(code: int) -> Reason:
    """What the reason in a DESTROY cell means to a loop measurement (tor-spec 5.4)."""
    return _DESTROYED.get(code, Reason.RELAY_CLOSED)


def describe(reason: str | None) -> tuple[ErrorKind, str]:
    """Kind and text of a REASON as it came; an unknown one, of a patched tor, is the peer's."""
    try:
        return REASONS[Reason(reason or "")]
    except ValueError:
        return ErrorKind.PEER, f"reason {reason or 'not given'}"
