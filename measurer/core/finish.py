"""Begins and ends measurements: their commands and far ends, what the coordinator is told, how they are forgotten."""

import base64

from flashflow.model.clock import Now
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint, MeasId, parse_address
from flashflow.model.network import NetworkLimits
from flashflow.torctl import commands
from flashflow.torctl.client import SendTorCommand
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
    return SendTorCommand(state.last_effect_id, line, COMMAND_S)


def launch(state: State, meas: Measurement, far_ends: tuple[commands.FarEnd, ...] = ()) -> Effect:
    """Have the Tor client launch the circuits."""
    return command(state, meas, Call.LAUNCH, launch_line(meas.order, state.limits.bucket_cells, far_ends))


def launch_line(
    order: wire.ConnectToRelay, bucket_cells: int, far_ends: tuple[commands.FarEnd, ...] = ()
) -> str:
    """The command that launches the circuits of `order`; in echo mode it holds the token."""
    target = commands.Target(
        parse_address(order.relay_addr), base64.b64decode(order.ed25519), base64.b64decode(order.ntor)
    )
    return commands.MeasrStart(
        MeasId(order.meas_id),
        Fingerprint(order.fp),
        order.n_circs,
        order.dur_s,
        rate_bytes=order.rate_bytes,
        warmup_s=order.warmup_s,
        mode=order.mode,
        token=bytes.fromhex(order.token) if order.mode == "echo" else None,
        target=target,
        bucket_cells=bucket_cells,
        far_ends=far_ends,
        limits=NetworkLimits(**order.limits.model_dump()) if order.limits and order.mode == "loop" else None,
    ).line()


def start_far_end(state: State, meas: Measurement) -> Effect:
    """Loop mode: circuits need an end first."""
    state.last_effect_id += 1
    meas.far_end_id = state.last_effect_id
    host = parse_address(meas.order.relay_addr).host
    return do.StartFarEnd(meas.far_end_id, Fingerprint(meas.order.fp), host)


def _stop_far_end(meas: Measurement) -> list[Effect]:
    if meas.far_end_id is None:
        return []
    effect_id, meas.far_end_id = meas.far_end_id, None
    return [do.StopFarEnd(effect_id)]


def stop(state: State, meas: Measurement, now: Now) -> list[Effect]:
    """Have the Tor client stop, and the far end; the measurement is forgotten when the Tor client has."""
    if meas.phase is Phase.STOPPING:
        return []
    enter(meas, Trigger.STOPPED, now)
    stopping = command(state, meas, Call.STOP, commands.Stop(MeasId(meas.order.meas_id)).line())
    return [stopping, *_stop_far_end(meas)]


def fail(state: State, meas: Measurement, code: str, kind: ErrorKind, reason: str, now: Now) -> list[Effect]:
    """Tell the coordinator and stop; a measurement that is being stopped already has no more to tell."""
    if meas.phase is Phase.STOPPING:
        return []
    return [*tell(meas.order.meas_id, code, kind, reason), *stop(state, meas, now)]


def tell(meas_id: int, code: str, kind: ErrorKind, reason: str) -> list[Effect]:
    """A Failure for the coordinator, and the log."""
    failure = wire.Failure(meas_id=meas_id, code=code, kind=kind, reason=reason)
    return [do.warn(f"measurement {meas_id}: {code}: {failure.reason}"), do.SendToCoordinator(failure)]


def tell_leaving(state: State) -> list[Effect]:
    """While it drains the coordinator is to know, or it would go on counting with this measurer."""
    if not (state.draining and state.linked):
        return []
    text = wire.FAILURE_TEXTS[wire.DRAINING]
    failure = wire.Failure(meas_id=None, code=wire.DRAINING, kind=ErrorKind.LOCAL, reason=text)
    return [do.SendToCoordinator(failure)]


def forget(state: State, meas: Measurement) -> list[Effect]:
    """The Tor client has nothing of it any more."""
    meas_id = MeasId(meas.order.meas_id)
    del state.measurements[meas_id]
    for effect_id in [number for number, (owner, _) in state.calls.items() if owner == meas_id]:
        del state.calls[effect_id]
    if not any(other.phase is Phase.LAUNCHING for other in state.measurements.values()):
        state.early_circuits.clear()
    return [*_stop_far_end(meas), *end_if_drained(state)]


def end_if_drained(state: State) -> list[Effect]:
    """StopService once nothing is left to drain."""
    if not state.draining or state.measurements or state.ended:
        return []
    state.ended = True
    return [do.info("nothing runs any more: ending"), do.StopService()]
