"""What comes of the coordinator: its messages, and the session's going up and down."""

from collections.abc import Callable
from typing import Any

from flashflow.model.clock import Now
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint, MeasId
from flashflow.model.units import to_mbps
from flashflow.torctl.commands import MeasrStart
from flashflow.wire import messages as wire
from measurer.core import effects as do
from measurer.core.checks import refusal
from measurer.core.effects import Effect
from measurer.core.events import CoordinatorSaid, LinkDown, LinkFailed, LinkUp
from measurer.core.finish import command, fail, launch, start_far_end, stop, tell, tell_leaving
from measurer.core.measurement import GO_LEGAL, Phase, Trigger, begin, enter
from measurer.core.state import LINK_LOST_S, Call, State


def on_link_up(state: State, event: LinkUp, now: Now) -> list[Effect]:
    """A session that is not resumed knows nothing of our measurements: they stop."""
    state.linked, state.link_lost_s = True, None
    effects: list[Effect] = [do.info(f"connected to the coordinator at {event.host}")]
    if not event.resumed:
        for meas in list(state.measurements.values()):
            effects += stop(state, meas, now)
    return effects + tell_leaving(state)


def on_link_down(state: State, event: LinkDown, now: Now) -> list[Effect]:
    """The time until all traffic stops runs from when the coordinator was last heard."""
    state.linked = False
    state.link_lost_s = event.heard_mono_s + LINK_LOST_S
    return [do.warn(f"lost the coordinator: {event.reason}")]


def on_link_failed(state: State, event: LinkFailed, now: Now) -> list[Effect]:
    """For the log."""
    return [do.warn(f"{event.reason} (trying again in {event.retry_s:.0f} s)")]


def on_said(state: State, event: CoordinatorSaid, now: Now) -> list[Effect]:
    """One message, by type; one that is not for us is denied."""
    handler = _HANDLERS.get(type(event.message))
    if handler is None:
        return [do.warn(f"the coordinator sent {event.message.type}, which is not for a measurer")]
    return handler(state, event.message, now)


def _on_connect(state: State, order: wire.ConnectToRelay, now: Now) -> list[Effect]:
    failure = refusal(state, order)
    if failure is not None:
        return tell(order.meas_id, failure.code, failure.kind, failure.reason)
    meas = state.measurements[MeasId(order.meas_id)] = begin(order, now)
    rate = f"{to_mbps(order.rate_bytes):.1f} Mbit/s"
    begun = do.info(
        f"measurement {order.meas_id} ({order.mode}): {order.n_circs} circuits to {order.fp}, {rate}"
    )
    return [begun, launch(state, meas) if order.mode == "echo" else start_far_end(state, meas)]


def _on_go(state: State, go: wire.Go, now: Now) -> list[Effect]:
    meas = state.measurements.get(MeasId(go.meas_id))
    if meas is None:
        text = wire.FAILURE_TEXTS[wire.M_UNKNOWN_MEAS_ID]
        return tell(go.meas_id, wire.M_UNKNOWN_MEAS_ID, ErrorKind.LOCAL, text)
    if meas.phase is Phase.STOPPING:
        return []  # our Failure and this Go have crossed
    if meas.phase not in GO_LEGAL:
        reason = f"Go came while {meas.phase.value}"
        return fail(state, meas, wire.M_START_ACTIVE_MEAS, ErrorKind.BUG, reason, now)
    enter(meas, Trigger.GONE_AHEAD, now)
    line = MeasrStart(MeasId(go.meas_id), Fingerprint(meas.order.fp), meas.built, meas.order.dur_s).line()
    return [command(state, meas, Call.START, line)]


def _on_stop(state: State, message: wire.Stop, now: Now) -> list[Effect]:
    meas = state.measurements.get(MeasId(message.meas_id))
    if meas is None:
        return []  # it has ended here already
    return [do.info(f"measurement {message.meas_id}: stopped: {message.reason}"), *stop(state, meas, now)]


def _on_failure(state: State, failure: wire.Failure, now: Now) -> list[Effect]:
    effects: list[Effect] = [do.warn(f"the coordinator: {failure.code}: {failure.reason}")]
    meas = state.measurements.get(MeasId(failure.meas_id)) if failure.meas_id is not None else None
    return effects if meas is None else effects + stop(state, meas, now)


_HANDLERS: dict[type, Callable[[State, Any, Now], list[Effect]]] = {
    wire.ConnectToRelay: _on_connect,
    wire.Go: _on_go,
    wire.Stop: _on_stop,
    wire.Failure: _on_failure,
}
