"""What the Tor client says: replies to commands, CIRC and FF_MEAS events, its coming and going."""

from collections.abc import Callable
from typing import Any

from coordinator.core import effects as do
from coordinator.core.assign import connect_all
from coordinator.core.effects import Effect
from coordinator.core.finish import complete, fail, move_on
from coordinator.core.measurement import RUNNING, TOR_LEGAL, Measurement, Phase, Trigger
from coordinator.core.progress import has_all_reports, show_seconds
from coordinator.core.state import State
from flashflow.model.clock import Now
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import MeasId
from flashflow.model.reports import SecondReport
from flashflow.model.results import Failure
from flashflow.model.timing import DRAIN_S
from flashflow.torctl import commands
from flashflow.torctl import events as tor
from flashflow.torctl.client import SendTorCommand, TorCameUp, TorReplied, TorWasLost
from flashflow.torctl.reasons import describe
from flashflow.wire import messages as wire

BEGIN_TIMEOUT_S = 5.0
EARLY_S = 1.0
"""A relay may end, and a background report may come, this much before its time."""


def on_up(state: State, event: TorCameUp, now: Now) -> list[Effect]:
    """The Tor client takes commands."""
    state.tor_up = True
    return [do.info("the Tor client is up")]


def on_lost(state: State, event: TorWasLost, now: Now) -> list[Effect]:
    """Every measurement in echo mode needs it and has failed; the output starts it again."""
    state.tor_up = False
    state.tor_commands.clear()
    failure = Failure(ErrorKind.LOCAL, f"the coordinator's Tor client was lost: {event.reason}")
    effects: list[Effect] = [do.warn(f"the Tor client was lost: {event.reason}")]
    for meas in [meas for meas in state.measurements.values() if meas.mode == "echo"]:
        effects += fail(state, meas, failure, now)
    return effects


def on_malformed(state: State, event: tor.EventError, now: Now) -> list[Effect]:
    """An event that makes no sense; the phase's deadline sees to the measurement."""
    return [do.warn(f"the Tor client: {event.reason}")]


def on_reply(state: State, event: TorReplied, now: Now) -> list[Effect]:
    """The outcome of a command of ours."""
    meas_id, purpose = state.tor_commands.pop(event.effect_id, (MeasId(0), "stop"))
    meas = state.measurements.get(meas_id)
    if meas is None or purpose == "stop":
        return []
    if purpose == "launch":
        return _launched(state, meas, event, now) if meas.phase is Phase.LAUNCHING else []
    return _begun(state, meas, event, now) if meas.phase is Phase.STARTING else []


def _launched(state: State, meas: Measurement, event: TorReplied, now: Now) -> list[Effect]:
    words = event.text.split()
    if not event.ok:
        return fail(
            state, meas, Failure(ErrorKind.LOCAL, f"the Tor client would not launch: {event.text}"), now
        )
    if len(words) < 2 or words[0] != "LAUNCHED":
        reason = (
            f"the Tor client's answer makes no sense: {event.text[:80]!r} (expected LAUNCHED and a circuit)"
        )
        return fail(state, meas, Failure(ErrorKind.LOCAL, reason), now)
    meas.circ_id = words[1]
    effects = move_on(state, meas, Trigger.LAUNCHED, now)
    early = meas.early_answer
    return effects + _on_params_ok(state, meas, early, now) if early is not None else effects


def _begun(state: State, meas: Measurement, event: TorReplied, now: Now) -> list[Effect]:
    if not event.ok:
        return fail(
            state, meas, Failure(ErrorKind.LOCAL, f"the Tor client would not start: {event.text}"), now
        )
    return _go(state, meas, now)


def _go(state: State, meas: Measurement, now: Now) -> list[Effect]:
    meas.started = now
    gos = [do.SendToMeasurer(name, wire.Go(meas_id=meas.meas_id)) for name in meas.shares]
    return [*move_on(state, meas, Trigger.BEGUN, now), *gos]


def begin(state: State, meas: Measurement, now: Now) -> list[Effect]:
    """All measurers are connected. In echo mode the Tor client hears first that the active phase begins (FF-119)."""
    if meas.mode == "loop":
        return _go(state, meas, now)
    effect_id = state.new_id()
    state.tor_commands[effect_id] = (meas.meas_id, "begin")
    dur_s = state.params.warmup_s + state.params.duration_s
    line = commands.CoordStart(meas_id=meas.meas_id, fingerprint=meas.relay.fingerprint, dur_s=dur_s).line()
    return [
        *move_on(state, meas, Trigger.ALL_CONNECTED, now),
        SendTorCommand(effect_id, line, BEGIN_TIMEOUT_S),
    ]


def on_circ(state: State, event: tor.CircEvent, now: Now) -> list[Effect]:
    """A circuit changed; only the loss of a measurement's own matters, and the reason may follow in FF_MEAS END."""
    for meas in state.measurements.values():
        if meas.circ_id == event.circ_id and meas.phase in RUNNING and event.status in ("CLOSED", "FAILED"):
            if meas.phase is Phase.ACTIVE and meas.started and now.mono_s >= _earliest_end(state, meas):
                return []
            reason = f"the circuit to the relay was closed ({event.reason or 'no reason given'})"
            meas.suspect(Failure(ErrorKind.NETWORK, reason), now)
    return []


def on_ff_meas(state: State, event: Any, now: Now) -> list[Effect]:
    """An FF_MEAS event: legal in this phase, then handled by type; one for a forgotten measurement is late."""
    meas = state.measurements.get(MeasId(event.meas_id))
    if meas is None or meas.phase not in RUNNING:
        return []
    if meas.phase not in TOR_LEGAL[type(event)]:
        reason = f"{type(event).__name__} came from the relay while {meas.phase.value}"
        return fail(state, meas, Failure(ErrorKind.PEER, reason), now)
    return _FF_MEAS[type(event)](state, meas, event, now)


def _on_params_sent(state: State, meas: Measurement, event: tor.ParamsSent, now: Now) -> list[Effect]:
    return []


def _on_params_ok(state: State, meas: Measurement, event: tor.ParamsOk, now: Now) -> list[Effect]:
    if meas.phase is Phase.LAUNCHING:
        meas.early_answer = event
        return []
    if not event.accepted:
        kind, text = describe(event.reason)
        return fail(state, meas, Failure(kind, f"the relay refused: {text}"), now)
    return [*move_on(state, meas, Trigger.ACCEPTED, now), *connect_all(state, meas)]


def _on_background(state: State, meas: Measurement, event: tor.BwReport, now: Now) -> list[Effect]:
    assert meas.started is not None  # set on entering ACTIVE
    repeat = (event.second, event.sent_bytes, event.recv_bytes) == meas.last_background
    age_s = now.mono_s - meas.started.mono_s
    fault = _background_fault(state, meas, event, age_s)
    if repeat:
        return []
    if fault:
        return fail(state, meas, Failure(ErrorKind.PEER, f"background report {event.second}: {fault}"), now)
    meas.last_background = (event.second, event.sent_bytes, event.recv_bytes)
    second = event.second - state.params.warmup_s
    if second >= 1 and age_s <= event.second + DRAIN_S:  # a late one counts as missing: 0
        meas.background[second] = SecondReport(second, event.sent_bytes, event.recv_bytes)
    effects = show_seconds(state, meas)
    return effects + (complete(state, meas, now) if has_all_reports(state, meas) else [])


def _background_fault(state: State, meas: Measurement, event: tor.BwReport, age_s: float) -> str | None:
    expected = meas.last_background[0] + 1
    last = state.params.warmup_s + state.params.duration_s
    if event.second != expected or event.second > last:
        return f"out of order (expected {expected} of {last})"
    if event.sent_bytes < 0 or event.recv_bytes < 0:
        return "a negative count"
    if age_s < event.second - EARLY_S:
        return f"too early ({age_s:.1f} s after the start)"
    return None


def _earliest_end(state: State, meas: Measurement) -> float:
    assert meas.started is not None
    return meas.started.mono_s + state.params.warmup_s + state.params.duration_s - EARLY_S


def _on_end(state: State, meas: Measurement, event: tor.MeasEnd, now: Now) -> list[Effect]:
    meas.relay_ended = True
    kind, text = describe(event.reason)
    if meas.phase is not Phase.ACTIVE:
        reason = text if not event.success else "the relay ended the measurement before it began"
        return fail(state, meas, Failure(kind if not event.success else ErrorKind.PEER, reason), now)
    if now.mono_s < _earliest_end(state, meas):
        reason = text if not event.success else "the relay ended the measurement too early"
        return fail(state, meas, Failure(kind if not event.success else ErrorKind.PEER, reason), now)
    return complete(state, meas, now) if has_all_reports(state, meas) else []


_FF_MEAS: dict[type, Callable[[State, Measurement, Any, Now], list[Effect]]] = {
    tor.ParamsSent: _on_params_sent,
    tor.ParamsOk: _on_params_ok,
    tor.BwReport: _on_background,
    tor.MeasEnd: _on_end,
}
