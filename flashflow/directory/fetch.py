"""The texts of consensus and descriptors out of a running tor, by its control port; for the parsing process only.

The whole network's descriptors are tens of megabytes, which stem takes in line by line: never in a service's process.
"""

import stem
import stem.control

from flashflow.model.errors import LocalError
from flashflow.shell.torcontrol import ControlPlace, close_controller, open_controller

CONSENSUS_KEY = "dir/status-vote/current/consensus"
DESCRIPTORS_KEY = "desc/all-recent"
"""Keys of GETINFO (control-spec 3.9)."""


def fetch(place: ControlPlace) -> tuple[bytes, bytes]:
    """Consensus and server descriptors that the tor at `place` has; the latter may be none. Raises LocalError."""
    controller = open_controller(place)
    try:
        return _consensus(controller, place), _descriptors(controller, place)
    finally:
        close_controller(controller)


def _consensus(controller: stem.control.Controller, place: ControlPlace) -> bytes:
    try:
        text = bytes(controller.get_info(CONSENSUS_KEY, get_bytes=True))
    except stem.OperationFailed as error:
        raise LocalError(
            f"tor at {place}: has no consensus yet, or UseMicrodescriptors 1: {_line(error)}"
        ) from None
    except stem.ControllerError as error:
        raise LocalError(f"tor at {place}: gives no consensus: {_line(error)}") from None
    if not text:
        raise LocalError(f"tor at {place}: has no consensus yet")
    return text


def _descriptors(controller: stem.control.Controller, place: ControlPlace) -> bytes:
    try:
        return bytes(controller.get_info(DESCRIPTORS_KEY, get_bytes=True))
    except stem.OperationFailed:  # it has none yet
        return b""
    except stem.ControllerError as error:
        raise LocalError(f"tor at {place}: gives no descriptors: {_line(error)}") from None


def _line(error: Exception) -> str:
    """stem's messages may be of several lines, with whatever was sent in them."""
    return " ".join(str(error).split())[:200]
