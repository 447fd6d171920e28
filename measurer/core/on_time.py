"""What comes of time: phases end at their deadlines, and traffic without a live session ends."""

from collections.abc import Callable

from flashflow.model.clock import Now
from flashflow.model.errors import ErrorKind
from flashflow.wire import messages as wire
from measurer.core import effects as do
from measurer.core.effects import Effect
from measurer.core.finish import fail, forget
from measurer.core.measurement import Measurement, Phase
from measurer.core.on_tor import check_circuits
from measurer.core.state import LINK_LOST_S, State


def next_timer(state: State) -> float | None:
    """Monotonic time of the next deadline."""
    times = [meas.deadline_s for meas in state.measurements.values()]
    if state.link_lost_s is not None:
        times.append(state.link_lost_s)
    return min(times, default=None)


def on_timer(state: State, event: object, now: Now) -> list[Effect]:
    """Everything whose time has come."""
    effects: list[Effect] = []
    if state.link_lost_s is not None and now.mono_s >= state.link_lost_s:
        effects += _link_lost(state, now)
    for meas in list(state.measurements.values()):
        if now.mono_s >= meas.deadline_s:
            effects += _LATE[meas.phase](state, meas, now)
    return effects


def _link_lost(state: State, now: Now) -> list[Effect]:
    state.link_lost_s = None
    running = [meas for meas in state.measurements.values() if meas.phase is not Phase.STOPPING]
    if not running:
        return []
    effects: list[Effect] = [do.warn(f"no live session for {LINK_LOST_S:.0f} s: stopping all traffic")]
    for meas in running:
        reason = f"the measurer had no live session with the coordinator for {LINK_LOST_S:.0f} s"
        effects += fail(state, meas, wire.MEASUREMENT_FAILED, ErrorKind.NETWORK, reason, now)
    return effects


def _far_end_late(state: State, meas: Measurement, now: Now) -> list[Effect]:
    reason = "the far end did not start in time"
    return fail(state, meas, wire.LAUNCH_CIRCS, ErrorKind.LOCAL, reason, now)


def _launch_late(state: State, meas: Measurement, now: Now) -> list[Effect]:
    reason = "the Tor client did not launch circuits in time"
    return fail(state, meas, wire.LAUNCH_CIRCS, ErrorKind.LOCAL, reason, now)


def _circuits_late(state: State, meas: Measurement, now: Now) -> list[Effect]:
    return check_circuits(state, meas, now, late=True)


def _go_late(state: State, meas: Measurement, now: Now) -> list[Effect]:
    return fail(
        state, meas, wire.MEASUREMENT_FAILED, ErrorKind.NETWORK, "no Go came from the coordinator", now
    )


def _start_late(state: State, meas: Measurement, now: Now) -> list[Effect]:
    reason = "the Tor client did not start sending in time"
    return fail(state, meas, wire.M_START_ACTIVE_MEAS, ErrorKind.LOCAL, reason, now)


def _end_late(state: State, meas: Measurement, now: Now) -> list[Effect]:
    reason = "the Tor client did not end the measurement in time"
    return fail(state, meas, wire.MEASUREMENT_FAILED, ErrorKind.LOCAL, reason, now)


def _stop_late(state: State, meas: Measurement, now: Now) -> list[Effect]:
    return forget(state, meas)


_LATE: dict[Phase, Callable[[State, Measurement, Now], list[Effect]]] = {
    Phase.PREPARING: _far_end_late,
    Phase.LAUNCHING: _launch_late,
    Phase.BUILDING: _circuits_late,
    Phase.READY: _go_late,
    Phase.STARTING: _start_late,
    Phase.ACTIVE: _end_late,
    Phase.STOPPING: _stop_late,
}
