"""What comes of the Tor client: its replies and events, its coming and going."""

import re
from collections.abc import Callable

from flashflow.model.clock import Now
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import MeasId
from flashflow.torctl import events as tor
from flashflow.torctl.client import TorCameUp, TorReplied, TorWasLost
from flashflow.torctl.reasons import FORGERIES, describe
from flashflow.wire import messages as wire
from measurer.core import effects as do
from measurer.core.effects import Effect
from measurer.core.finish import fail, forget, tell
from measurer.core.measurement import TOR_LEGAL, Measurement, Phase, Trigger, enter
from measurer.core.state import MAX_EARLY_CIRCUITS, Call, State

MAX_SECOND_BYTES = 2**50
"""What a BwReport can hold."""
_LAUNCHED = re.compile(r"FF_MEAS ([0-9]{1,10}) LAUNCHED CIRCS=([!-~]{1,2000})")
_BUILT, _OVER = "BUILT", ("FAILED", "CLOSED")


def on_up(state: State, event: TorCameUp, now: Now) -> list[Effect]:
    """From now on measurements are taken."""
    state.tor_up = True
    return [do.info("the Tor client is up"), do.Announce()]


def on_lost(state: State, event: TorWasLost, now: Now) -> list[Effect]:
    """Its traffic has ended with it: every measurement has failed."""
    state.tor_up = False
    effects: list[Effect] = [do.warn(f"the Tor client was lost: {event.reason}")]
    for meas in list(state.measurements.values()):
        if meas.phase is not Phase.STOPPING:
            text = f"{wire.FAILURE_TEXTS[wire.TOR_CLIENT_LOST]}: {event.reason}"
            effects += tell(meas.order.meas_id, wire.TOR_CLIENT_LOST, ErrorKind.LOCAL, text)
        effects += forget(state, meas)
    return effects


def on_replied(state: State, event: TorReplied, now: Now) -> list[Effect]:
    """The reply to one of our commands; of a measurement that is gone or being stopped it means nothing more."""
    meas_id, call = state.calls.pop(event.effect_id, (None, Call.STOP))
    meas = state.measurements.get(meas_id) if meas_id is not None else None
    if meas is None or (meas.phase is Phase.STOPPING and call is not Call.STOP):
        return []
    return _REPLIES[call](state, meas, event, now)


def _launched(state: State, meas: Measurement, event: TorReplied, now: Now) -> list[Effect]:
    if not event.ok:
        return fail(state, meas, wire.LAUNCH_CIRCS, ErrorKind.LOCAL, f"the Tor client: {event.text}", now)
    circuits = parse_launched(event.text, meas.order.meas_id)
    if not circuits or len(circuits) > meas.order.n_circs or _known(state, circuits):
        reason = f"{wire.FAILURE_TEXTS[wire.MALFORMED_TOR_RESP]}: {event.text[:200]}"
        return fail(state, meas, wire.MALFORMED_TOR_RESP, ErrorKind.LOCAL, reason, now)
    enter(meas, Trigger.LAUNCHED, now)
    for circ_id in circuits:
        built, reason_token = state.early_circuits.pop(circ_id, (None, None))
        meas.circuits[circ_id] = built
        meas.note_circuit_reason(reason_token)
    return check_circuits(state, meas, now)


def parse_launched(text: str, meas_id: int) -> list[str]:
    """The circuits of `FF_MEAS <id> LAUNCHED CIRCS=1,2,3`; empty if it is anything else."""
    found = _LAUNCHED.search(text)
    if found is None or int(found.group(1)) != meas_id:
        return []
    circuits = found.group(2).split(",")
    return circuits if all(circuits) and len(set(circuits)) == len(circuits) else []


def _known(state: State, circuits: list[str]) -> bool:
    return any(circ_id in meas.circuits for meas in state.measurements.values() for circ_id in circuits)


def _started(state: State, meas: Measurement, event: TorReplied, now: Now) -> list[Effect]:
    if not event.ok:
        reason = f"{wire.FAILURE_TEXTS[wire.M_START_ACTIVE_MEAS]}: {event.text}"
        return fail(state, meas, wire.M_START_ACTIVE_MEAS, ErrorKind.LOCAL, reason, now)
    enter(meas, Trigger.STARTED, now)
    return [do.info(f"measurement {meas.order.meas_id}: sending over {meas.built} circuits")]


def _stopped(state: State, meas: Measurement, event: TorReplied, now: Now) -> list[Effect]:
    return [] if event.ok else forget(state, meas)  # it does not know of it; else its end is awaited


_REPLIES: dict[Call, Callable[[State, Measurement, TorReplied, Now], list[Effect]]] = {
    Call.LAUNCH: _launched,
    Call.START: _started,
    Call.STOP: _stopped,
}


def on_circuit(state: State, event: tor.CircEvent, now: Now) -> list[Effect]:
    """A circuit was built or is gone."""
    if event.status != _BUILT and event.status not in _OVER:
        return []
    built = event.status == _BUILT
    meas = next((found for found in state.measurements.values() if event.circ_id in found.circuits), None)
    if meas is None:
        launching = any(other.phase is Phase.LAUNCHING for other in state.measurements.values())
        if launching and len(state.early_circuits) < MAX_EARLY_CIRCUITS:
            state.early_circuits[event.circ_id] = (built, event.reason)
        return []
    meas.circuits[event.circ_id] = built
    meas.note_circuit_reason(event.reason)
    return check_circuits(state, meas, now)


def check_circuits(state: State, meas: Measurement, now: Now, *, late: bool = False) -> list[Effect]:
    """Once all circuits are built or gone, or time is up (`late`): tell the coordinator, or fail."""
    if meas.phase is Phase.READY and not meas.has_enough:
        return _too_few(state, meas, now)
    if meas.phase is not Phase.BUILDING or (meas.building and not late):
        return []
    if not meas.has_enough:
        return _too_few(state, meas, now)
    enter(meas, Trigger.BUILT, now)
    ready = wire.ConnectedToRelay(meas_id=meas.order.meas_id, n_circs=meas.built)
    text = f"measurement {meas.order.meas_id}: {meas.built} of {meas.order.n_circs} circuits are built"
    return [do.info(text), do.SendToCoordinator(ready)]


def _too_few(state: State, meas: Measurement, now: Now) -> list[Effect]:
    kind, text = ErrorKind.NETWORK, "no answer in time"
    if meas.circuit_reason is not None:
        kind, text = describe(meas.circuit_reason)
    reason = f"{meas.built} of {meas.order.n_circs} circuits could be built: {text}"
    code = wire.ECHO_FORGED if meas.circuit_reason in FORGERIES else wire.LAUNCH_CIRCS
    return fail(state, meas, code, kind, reason, now)


def on_report(state: State, event: tor.BwReport, now: Now) -> list[Effect]:
    """One second's count, forwarded."""
    meas = state.measurements.get(MeasId(event.meas_id))
    if meas is None or meas.phase is Phase.STOPPING:
        return []
    sane = (
        1 <= event.second <= meas.order.dur_s and max(event.sent_bytes, event.recv_bytes) <= MAX_SECOND_BYTES
    )
    if not sane or meas.phase not in TOR_LEGAL[tor.BwReport]:
        reason = (
            f"the Tor client reported second {event.second} of {meas.order.dur_s} while {meas.phase.value}"
        )
        return fail(state, meas, wire.MALFORMED_TOR_RESP, ErrorKind.LOCAL, reason, now)
    meas.seconds += 1
    report = wire.BwReport(
        meas_id=event.meas_id, second=event.second, sent_bytes=event.sent_bytes, recv_bytes=event.recv_bytes
    )
    return [do.SendToCoordinator(report)]


def on_end(state: State, event: tor.MeasEnd, now: Now) -> list[Effect]:
    """The Tor client is done with a measurement; before its time that is a failure."""
    meas = state.measurements.get(MeasId(event.meas_id))
    if meas is None:
        return []
    effects: list[Effect] = []
    if meas.phase is not Phase.STOPPING:
        effects = _tell_end(meas, event)
    return effects + forget(state, meas)


def _tell_end(meas: Measurement, event: tor.MeasEnd) -> list[Effect]:
    traffic = meas.phase in TOR_LEGAL[tor.BwReport]
    if event.success and traffic:
        return [do.info(f"measurement {meas.order.meas_id}: done, {meas.seconds} seconds reported")]
    kind, text = describe(event.reason)
    if event.success:
        kind, text = ErrorKind.LOCAL, f"the Tor client ended while {meas.phase.value}"
    code = wire.MEASUREMENT_FAILED if traffic or meas.phase is Phase.READY else wire.LAUNCH_CIRCS
    if event.reason in FORGERIES:
        code = wire.ECHO_FORGED
    return tell(meas.order.meas_id, code, kind, text)
