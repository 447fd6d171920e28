"""Time: slots, deadlines of phases, periodic work; what is known of relays. Begin of slot (FF-04, FF-05)."""

import math

from coordinator.core import effects as do
from coordinator.core import kept, planning
from coordinator.core.effects import Effect
from coordinator.core.events import (
    Progress,
    RelayGone,
    RelayOffered,
    RelaysFailed,
    RelaysLoaded,
    Started,
    StopRequested,
)
from coordinator.core.finish import (
    complete,
    drop_request,
    fail,
    give_up_saving,
    interrupted,
    save_again,
    save_left_behind,
)
from coordinator.core.measurement import RUNNING, Measurement, Phase
from coordinator.core.on_ctrl import new_request
from coordinator.core.schedule import Placement
from coordinator.core.state import State, refusal
from flashflow.model.clock import Now, TimerFired
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint
from flashflow.model.results import Failure

FIRST_V3BW_S = 60.0
"""A v3bw file is written so soon after the start, when the relays are known."""


def on_started(state: State, event: Started, now: Now) -> list[Effect]:
    """The first event: take up what the store knows, load the relays."""
    state.draw.seed = event.seed
    state.secret = event.secret
    state.started_mono_s = now.mono_s
    state.results = {result.fingerprint: result for result in event.results}
    state.failures = dict(event.failures)
    state.standings = {standing.fingerprint: standing for standing in event.standings}
    state.next_slot_utc_s = _next_slot(state, now.utc_s)
    state.next_refresh_s = now.mono_s + state.params.directory_refresh_s
    state.next_v3bw_s = now.mono_s + min(FIRST_V3BW_S, state.params.v3bw_interval_s)
    left = _take_up(state, event, event.progress, now) if event.progress else []
    return [*left, do.LoadRelays()]


def _take_up(state: State, event: Started, progress: Progress, now: Now) -> list[Effect]:
    """Go on with the period; what was in work when the last run ended has failed, and its relay is due again."""
    kept.restore(state, progress, event.plan)
    state.unsaved = bool(progress.in_work)
    state.left_behind = {left.meas_id: interrupted(state, left, now) for left in progress.in_work}
    return save_left_behind(state)


def on_relays(state: State, event: RelaysLoaded, now: Now) -> list[Effect]:
    """Consensus and filter as they are now."""
    state.relays = {relay.fingerprint: relay for relay in event.relays}
    state.header = event.header
    state.rules = event.relay_filter.resolve(event.relays)
    state.relays_error = None
    state.hosts = None
    planning.estimate_all(state)
    measured = sum(planning.is_eligible(state, fingerprint) for fingerprint in state.relays)
    known = do.info(f"{len(state.relays)} relays known, {measured} of them to be measured")
    return [known, *_drop_refused(state, now)]


def _drop_refused(state: State, now: Now) -> list[Effect]:
    """What is in work or waits for a relay that is gone or may not be measured any more ends, and says why."""
    effects: list[Effect] = []
    for meas in [one for one in state.measurements.values() if one.phase in RUNNING]:
        relay = state.relays.get(meas.relay.fingerprint)
        failure = Failure(ErrorKind.NETWORK, "it left the consensus")
        if relay is not None and (problem := refusal(state, relay)):
            failure = Failure(ErrorKind.LOCAL, problem)
        elif relay is not None:
            continue
        effects += fail(state, meas, failure, now)
    for request in list(state.queue):
        relay = state.relays.get(request.fingerprint)
        problem = (
            refusal(state, relay) if relay else f"{request.fingerprint} is not in the consensus any more"
        )
        if problem is None:
            request.mode = state.rules[request.fingerprint].mode
            continue
        state.queue.remove(request)
        effects += drop_request(request, Failure(ErrorKind.LOCAL, problem))
        if request.scheduled:
            planning.wait(state, request.fingerprint)
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
        if request.scheduled:
            planning.wait(state, request.fingerprint)
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
    if state.left_again_s is not None and now.mono_s >= state.left_again_s:
        effects += save_left_behind(state)
    if state.save_again_s is not None and now.mono_s >= state.save_again_s:
        state.save_again_s, state.unsaved, state.new_plan = None, True, True
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
    times += [when for when in (state.left_again_s, state.save_again_s) if when is not None]
    in_work = state.measurements.values()
    times += [meas.deadline_s for meas in in_work]
    times += [meas.save_again_s for meas in in_work if meas.save_again_s is not None]
    return min(times)


def begin_of_slot(state: State, now: Now) -> list[Effect]:
    """Begin what the schedule has for this slot; what finds no capacity until the next one gets another slot."""
    for request in [request for request in state.queue if request.scheduled]:
        planning.wait(state, request.fingerprint)
    state.queue = [request for request in state.queue if not request.scheduled]
    planning.begin_of_period(state, now)
    state.next_slot_utc_s = _next_slot(state, now.utc_s)
    slot = planning.slot_of(state, now.utc_s)
    if not state.relays or not state.connected_team() or slot < 0:
        return []
    effects = planning.make_ready(state, slot)
    schedule = state.period.schedule
    assert schedule is not None  # made ready
    shares = schedule.shares(slot)
    for placement in schedule.in_slot(slot):
        _begin(state, placement, shares[placement.fingerprint])
    return effects


def _begin(state: State, placement: Placement, rates: dict[str, int]) -> None:
    """Queue a relay's measurement, if it can be measured now; else it waits for another slot."""
    fingerprint = placement.fingerprint
    planning.give_up_slot(state, fingerprint)
    if not planning.may_run(state, fingerprint):
        planning.done_with(state, fingerprint)
    elif not planning.is_eligible(state, fingerprint) or _is_busy(state, fingerprint):
        planning.wait(state, fingerprint)
    else:
        request = new_request(state, state.relays[fingerprint], scheduled=True)
        request.rates = rates
        request.limited = planning.is_limited(state, placement)
        state.queue.append(request)


def _is_busy(state: State, fingerprint: Fingerprint) -> bool:
    if state.rules[fingerprint].mode == "echo" and not state.tor_up:
        return True
    return any(meas.relay.fingerprint == fingerprint for meas in state.measurements.values())


def on_offered(state: State, event: RelayOffered, now: Now) -> list[Effect]:
    """A relay came up in the consensus: it gets the first slot with room, and nobody is moved."""
    return [do.AnswerOffer(event.offer_id, planning.offer(state, event.fingerprint, now))]


def on_gone(state: State, event: RelayGone, now: Now) -> list[Effect]:
    """A relay went: it has no slot any more, unless it has come back since; what was in work has ended before."""
    relay = state.relays.get(event.fingerprint)
    if relay is not None and refusal(state, relay) is None:
        return [
            do.AnswerOffer(event.offer_id, f"it is back: {planning.offer(state, event.fingerprint, now)}")
        ]
    planning.forget(state, event.fingerprint)
    return [do.AnswerOffer(event.offer_id, "not scheduled any more")]


def _next_slot(state: State, utc_s: float) -> float:
    return (math.floor(utc_s / state.params.slot_s) + 1) * float(state.params.slot_s)


def _on_deadline(state: State, meas: Measurement, now: Now) -> list[Effect]:
    if meas.phase is Phase.SAVING:
        return give_up_saving(state, meas, now)
    if meas.suspicion is not None:
        return fail(state, meas, meas.suspicion, now)
    if meas.phase is Phase.ACTIVE:
        return _late_reports(state, meas, now)
    return fail(state, meas, _LATE[meas.phase], now)


_LATE = {
    Phase.RECORDING: Failure(
        ErrorKind.LOCAL, "the store did not take in time that it begins (see the coordinator's log)"
    ),
    Phase.LAUNCHING: Failure(ErrorKind.LOCAL, "the Tor client did not answer in time"),
    Phase.PARAMS: Failure(ErrorKind.PEER, "the relay did not answer MEAS_PARAMS in time"),
    Phase.CONNECTING: Failure(
        ErrorKind.NETWORK, "a measurer did not connect to the relay in time", by_measurer=True
    ),
    Phase.STARTING: Failure(ErrorKind.LOCAL, "the Tor client did not start the measurement in time"),
}
"""What has failed when a phase of the set-up is over its time."""


def _late_reports(state: State, meas: Measurement, now: Now) -> list[Effect]:
    """The drain is over: a measurer whose reports still lack has failed; missing background counts 0."""
    for share in meas.unfinished:
        if state.params.duration_s not in share.reports:
            reason = f"measurer {share.name} gave {len(share.reports)} of {state.params.duration_s} reports in time"
            share.failure = Failure(ErrorKind.NETWORK, reason, by_measurer=True)
    return complete(state, meas, now)
