"""Time: slots and periods, deadlines of phases, periodic work. Begin of slot, begin of period (FF-04, FF-05)."""

import math

from coordinator.core import effects as do
from coordinator.core.effects import Effect
from coordinator.core.events import Progress, RelaysFailed, RelaysLoaded, Started, StopRequested
from coordinator.core.finish import complete, drop_request, fail, give_up_saving, interrupted, save_again
from coordinator.core.measurement import Measurement, Phase
from coordinator.core.on_ctrl import new_request, refusal
from coordinator.core.state import Period, State
from flashflow.model.clock import Now, TimerFired
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint
from flashflow.model.results import Failure

FIRST_V3BW_S = 60.0
"""A v3bw file is written so soon after the start, when the relays are known."""


def on_started(state: State, event: Started, now: Now) -> list[Effect]:
    """The first event: take up what the store knows, load the relays."""
    state.draw.seed = event.seed
    state.started_mono_s = now.mono_s
    state.results = {result.fingerprint: result for result in event.results}
    state.failures = dict(event.failures)
    state.next_slot_utc_s = _next_slot(state, now.utc_s)
    state.next_refresh_s = now.mono_s + state.params.directory_refresh_s
    state.next_v3bw_s = now.mono_s + min(FIRST_V3BW_S, state.params.v3bw_interval_s)
    left = _take_up(state, event.progress, now) if event.progress else []
    return [*left, do.LoadRelays()]


def _take_up(state: State, progress: Progress, now: Now) -> list[Effect]:
    """Go on with the period; what was in work when the last run ended has failed, and its relay is due again."""
    state.period = Period(progress.period_utc_s, list(progress.taken), list(progress.retried))
    state.unsaved = bool(progress.in_work)
    return [do.SaveMeasurement(interrupted(state, left, now)) for left in progress.in_work]


def on_relays(state: State, event: RelaysLoaded, now: Now) -> list[Effect]:
    """Consensus and filter as they are now."""
    state.relays = {relay.fingerprint: relay for relay in event.relays}
    state.header = event.header
    state.rules = event.relay_filter.resolve(event.relays)
    state.relays_error = None
    measured = len(_to_measure(state))
    known = do.info(f"{len(state.relays)} relays known, {measured} of them to be measured")
    return [known, *_drop_refused(state)]


def _drop_refused(state: State) -> list[Effect]:
    """What waits for a relay that is gone, or that may not be measured any more, ends; its watchers hear why."""
    effects: list[Effect] = []
    for request in list(state.queue):
        relay = state.relays.get(request.fingerprint)
        problem = (
            refusal(state, relay) if relay else f"{request.fingerprint} is not in the consensus any more"
        )
        if problem is not None:
            state.queue.remove(request)
            effects += drop_request(request, Failure(ErrorKind.LOCAL, problem))
    return effects


def on_relays_failed(state: State, event: RelaysFailed, now: Now) -> list[Effect]:
    """They could not be read; what was known before stays."""
    state.relays_error = event.reason
    return [do.warn(event.reason)]


def on_stop(state: State, event: StopRequested, now: Now) -> list[Effect]:
    """Drain: nothing new; what waits hears so."""
    state.draining = True
    failure = Failure(ErrorKind.LOCAL, "the coordinator is stopping")
    effects: list[Effect] = [do.info(f"stopping after {len(state.measurements)} running measurements")]
    for request in state.queue:
        effects += drop_request(request, failure)
    state.queue.clear()
    return effects


def on_timer(state: State, event: TimerFired, now: Now) -> list[Effect]:
    """Whatever is due."""
    effects: list[Effect] = []
    for meas in list(state.measurements.values()):
        if meas.save_again_s is not None and now.mono_s >= meas.save_again_s:
            effects += save_again(meas)
        if now.mono_s >= meas.deadline_s:
            effects += _on_deadline(state, meas, now)
    if state.next_slot_utc_s - now.utc_s > state.params.slot_s:  # the clock was set back
        state.next_slot_utc_s = _next_slot(state, now.utc_s)
    if now.utc_s >= state.next_slot_utc_s and not state.draining:
        effects += begin_of_slot(state, now)
    if now.mono_s >= state.next_refresh_s:
        state.next_refresh_s = now.mono_s + state.params.directory_refresh_s
        effects.append(do.LoadRelays())
    if now.mono_s >= state.next_v3bw_s:
        state.next_v3bw_s = now.mono_s + state.params.v3bw_interval_s
        effects.append(do.WriteV3bw(state.new_id(), dict(state.relays)))
    return effects


def next_timer(state: State, now: Now) -> float:
    """Monotonic time of whatever is due next."""
    until_slot = max(0.0, min(state.next_slot_utc_s - now.utc_s, float(state.params.slot_s)))
    times = [state.next_refresh_s, state.next_v3bw_s]
    if not state.draining:
        times.append(now.mono_s + until_slot)
    for meas in state.measurements.values():
        times.append(meas.deadline_s)
        if meas.save_again_s is not None:
            times.append(meas.save_again_s)
    return min(times)


def begin_of_slot(state: State, now: Now) -> list[Effect]:
    """Queue the next relay of this period, unless nothing could measure it or earlier ones still wait.

    A relay is done with when its measurement has ended (finish.py), and that is kept in the store: so neither a
    restart nor a cancelled or dropped request doubles or forgets one.
    """
    effects = begin_of_period(state, now)
    state.next_slot_utc_s = _next_slot(state, now.utc_s)
    done = {*state.period.taken, *(meas.relay.fingerprint for meas in state.measurements.values())}
    due = [
        fp for fp in _to_measure(state) if fp not in done and (state.tor_up or state.rules[fp].mode == "loop")
    ]
    if due and state.connected_team() and not state.queue:
        state.queue.append(new_request(state, state.relays[due[0]], scheduled=True))
    return effects


def begin_of_period(state: State, now: Now) -> list[Effect]:
    """At a period's first slot, and at the first slot of a run that finds no stored period."""
    start = now.utc_s - now.utc_s % state.params.period_s
    if state.period.start_utc_s == start:
        return []
    state.period = Period(start)
    state.unsaved = True
    return [do.info(f"a period begins with {len(_to_measure(state))} relays to measure")]


def _next_slot(state: State, utc_s: float) -> float:
    return (math.floor(utc_s / state.params.slot_s) + 1) * float(state.params.slot_s)


def _to_measure(state: State) -> list[Fingerprint]:
    """The relays that the filter allows, that run and have keys; largest estimate first."""
    chosen = [relay for relay in state.relays.values() if relay.running and refusal(state, relay) is None]

    def estimate(fingerprint: Fingerprint) -> int:
        known = state.results.get(fingerprint)
        return known.result_bytes if known else 0

    return sorted((relay.fingerprint for relay in chosen), key=lambda fp: (-estimate(fp), fp))


def _on_deadline(state: State, meas: Measurement, now: Now) -> list[Effect]:
    if meas.phase is Phase.SAVING:
        return give_up_saving(state, meas, now)
    if meas.phase is Phase.ACTIVE and meas.circuit_lost is None:
        return _late_reports(state, meas, now)
    waited = meas.circuit_lost or _WAITED_FOR[meas.phase]
    return fail(state, meas, Failure(_blame(meas), waited), now)


_WAITED_FOR = {
    Phase.LAUNCHING: "the Tor client did not answer in time",
    Phase.PARAMS: "the relay did not answer MEAS_PARAMS in time",
    Phase.CONNECTING: "a measurer did not connect to the relay in time",
    Phase.STARTING: "the Tor client did not start the measurement in time",
    Phase.ACTIVE: "the circuit was lost",
}


def _blame(meas: Measurement) -> ErrorKind:
    if meas.circuit_lost is not None or meas.phase is Phase.CONNECTING:
        return ErrorKind.NETWORK
    return ErrorKind.PEER if meas.phase is Phase.PARAMS else ErrorKind.LOCAL


def _late_reports(state: State, meas: Measurement, now: Now) -> list[Effect]:
    """The drain is over: a measurer whose reports still lack has failed; missing background counts 0."""
    for share in meas.unfinished:
        if state.params.duration_s not in share.reports:
            reason = f"measurer {share.name} gave {len(share.reports)} of {state.params.duration_s} reports in time"
            share.failure = Failure(ErrorKind.NETWORK, reason)
    return complete(state, meas, now)
