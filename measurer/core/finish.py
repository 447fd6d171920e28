"""Ends measurements: stops their traffic, tells the coordinator, forgets them."""

from flashflow.model.clock import Now
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import MeasId
from flashflow.torctl import commands
from flashflow.wire import messages as wire
from measurer.core import effects as do
from measurer.core.effects import Effect
from measurer.core.measurement import Measurement, Phase, Trigger, enter
from measurer.core.state import Call, State

COMMAND_S = 3.0
"""The Tor client answers commands within this; less than any phase's deadline."""


def command(state: State, meas: Measurement, call: Call, line: str) -> Effect:
    """A command to the Tor client, remembered until its reply."""
    state.last_effect_id += 1
    state.calls[state.last_effect_id] = (MeasId(meas.order.meas_id), call)
    return do.SendTorCommand(state.last_effect_id, line, COMMAND_S)


def stop(state: State, meas: Measurement, now: Now) -> list[Effect]:
    """Have the Tor client stop; the measurement is forgotten when it has."""
    if meas.phase is Phase.STOPPING:
        return []
    enter(meas, Trigger.STOPPED, now)
    return [command(state, meas, Call.STOP, commands.Stop(MeasId(meas.order.meas_id)).line())]


def fail(state: State, meas: Measurement, code: str, kind: ErrorKind, reason: str, now: Now) -> list[Effect]:
    """Tell the coordinator and stop; a measurement that is being stopped already has no more to tell."""
    if meas.phase is Phase.STOPPING:
        return []
    return [*tell(meas.order.meas_id, code, kind, reason), *stop(state, meas, now)]


def tell(meas_id: int, code: str, kind: ErrorKind, reason: str) -> list[Effect]:
    """A Failure for the coordinator, and the log."""
    failure = wire.Failure(meas_id=meas_id, code=code, kind=kind, reason=reason)
    return [do.warn(f"measurement {meas_id}: {code}: {failure.reason}"), do.SendToCoordinator(failure)]


def forget(state: State, meas: Measurement) -> list[Effect]:
    """The Tor client has nothing of it any more."""
    meas_id = MeasId(meas.order.meas_id)
    del state.measurements[meas_id]
    for effect_id in [number for number, (owner, _) in state.calls.items() if owner == meas_id]:
        del state.calls[effect_id]
    if not any(other.phase is Phase.LAUNCHING for other in state.measurements.values()):
        state.early_circuits.clear()
    return end_if_drained(state)


def end_if_drained(state: State) -> list[Effect]:
    """StopService once nothing is left to drain."""
    if not state.draining or state.measurements or state.ended:
        return []
    state.ended = True
    return [do.info("nothing runs any more: ending"), do.StopService()]
