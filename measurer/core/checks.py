"""Whether the measurer takes a measurement on: its own limits bind whatever the coordinator asks."""

from collections.abc import Callable

from flashflow.model.errors import ErrorKind
from flashflow.model.ids import MeasId, parse_address
from flashflow.model.units import to_mbps
from flashflow.wire import messages as wire
from flashflow.wire.messages import ConnectToRelay
from measurer.core.state import State


def refusal(state: State, order: ConnectToRelay) -> wire.Failure | None:
    """Why `order` is not taken on, or None."""
    for code, kind, check in _CHECKS:
        detail = check(state, order)
        if detail is not None:
            text = f"{wire.FAILURE_TEXTS[code]}{': ' if detail else ''}{detail}"
            return wire.Failure(meas_id=order.meas_id, code=code, kind=kind, reason=text)
    return None


def _duplicate(state: State, order: ConnectToRelay) -> str | None:
    return "" if MeasId(order.meas_id) in state.measurements else None


def _draining(state: State, order: ConnectToRelay) -> str | None:
    return "" if state.draining else None


def _mode(state: State, order: ConnectToRelay) -> str | None:
    return order.mode if order.mode == "loop" and not state.limits.loops else None


def _target(state: State, order: ConnectToRelay) -> str | None:
    address = parse_address(order.relay_addr)  # checked when the message was parsed
    return None if state.limits.allowed_networks.allows(address.host) and address.port else str(address)


def _rate(state: State, order: ConnectToRelay) -> str | None:
    total, limit = state.committed_bytes() + order.rate_bytes, state.limits.max_rate_bytes
    return f"{to_mbps(total):.1f} of {to_mbps(limit):.1f} Mbit/s" if total > limit else None


def _tor(state: State, order: ConnectToRelay) -> str | None:
    return None if state.tor_up else ""


_CHECKS: tuple[tuple[str, ErrorKind, Callable[[State, ConnectToRelay], str | None]], ...] = (
    (wire.M_DUPE_MEAS_ID, ErrorKind.BUG, _duplicate),
    (wire.DRAINING, ErrorKind.LOCAL, _draining),
    (wire.MODE_NOT_SUPPORTED, ErrorKind.LOCAL, _mode),
    (wire.TARGET_NOT_ALLOWED, ErrorKind.LOCAL, _target),
    (wire.RATE_EXCEEDED, ErrorKind.LOCAL, _rate),
    (wire.TOR_CLIENT_LOST, ErrorKind.LOCAL, _tor),
)
"""Code, kind, and a check that gives a detail (perhaps empty) if it refuses; in this order."""
