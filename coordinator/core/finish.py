"""How measurements end: completed or failed, then stored, then told to everyone, then forgotten."""

import logging
from dataclasses import replace
from typing import Any

from coordinator.core import effects as do
from coordinator.core.aggregate import Aggregate, aggregate
from coordinator.core.effects import Effect
from coordinator.core.events import InWork, MeasurementNotStored, MeasurementStored, StoreFailed
from coordinator.core.measurement import DEADLINES, RUNNING, Measurement, Phase, Trigger
from coordinator.core.planning import ended, take_back_run
from coordinator.core.state import Request, State
from coordinator.core.views import failure_view, result_view
from flashflow.model.clock import Now
from flashflow.model.errors import ErrorKind
from flashflow.model.results import Failure, Fault, MeasurementRecord, MeasurerShare, Standing
from flashflow.model.units import to_mbps
from flashflow.store.latest import LatestResult
from flashflow.torctl import commands
from flashflow.torctl.client import SendTorCommand
from flashflow.wire import messages as wire

STOP_TIMEOUT_S = 5.0
SAVE_AGAIN_S = 5.0


def tell_watchers(meas: Measurement | Request, data: dict[str, Any]) -> list[Effect]:
    """One EVENT line to each controller that watches."""
    return [do.SendToCtrl(conn, "EVENT", data) for conn in meas.watchers]


def move_on(state: State, meas: Measurement, trigger: Trigger, now: Now) -> list[Effect]:
    """Change the phase and tell the watchers."""
    meas.advance(trigger, now, state.params)
    return tell_watchers(meas, {"event": "phase", "meas_id": meas.meas_id, "phase": meas.phase.value})


def complete(state: State, meas: Measurement, now: Now) -> list[Effect]:
    """Sum up an ACTIVE measurement; too many missing seconds make it a failure, as does what is suspected."""
    if meas.suspicion is not None:
        return fail(state, meas, meas.suspicion, now)
    reports = [share.reports for share in meas.shares.values()]
    summed = aggregate(state.params.duration_s, reports, meas.background, state.params.background_ratio)
    if isinstance(summed, Failure):
        failures = [share.failure for share in meas.shares.values() if share.failure]
        return fail(state, meas, failures[0] if failures else summed, now)
    return [
        *move_on(state, meas, Trigger.COMPLETED, now),
        *_stop_parts(state, meas),
        *_save(state, meas, summed, now),
    ]


def fail(state: State, meas: Measurement, failure: Failure, now: Now) -> list[Effect]:
    """End a running measurement with the reason; does nothing to one that has ended."""
    if meas.phase not in RUNNING:
        return []
    meas.failure = failure
    if meas.recorded_s is None:
        take_back_run(state, meas.relay.fingerprint)
    return [
        do.warn(
            f"measurement {meas.meas_id} of {meas.relay.nickname} failed ({failure.kind}): {failure.reason}"
        ),
        *move_on(state, meas, Trigger.FAILED, now),
        *_stop_parts(state, meas),
        *_save(state, meas, None, now),
    ]


def drop_request(request: Request, failure: Failure) -> list[Effect]:
    """Tell the watchers of a measurement that never began."""
    data = {
        "event": "done",
        "meas_id": request.meas_id,
        "fingerprint": request.fingerprint,
        "outcome": "failed",
    }
    return tell_watchers(request, {**data, "failure": failure_view(failure)})


def on_stored(state: State, event: MeasurementStored, now: Now) -> list[Effect]:
    """The record is on disk: tell everyone, forget the measurement."""
    if state.left_behind.pop(event.meas_id, None) is not None:
        state.unsaved = True
        return []
    if (late := state.given_up.pop(event.meas_id, None)) is not None:
        return _stored_after_all(state, late, now)
    meas = state.measurements.get(event.meas_id)
    if meas is None or meas.phase is not Phase.SAVING or meas.record is None:
        return []
    _take_in(state, meas.record)
    return _end(state, meas, meas.record, now)


def _stored_after_all(state: State, meas: Measurement, now: Now) -> list[Effect]:
    """Watchers were told that it failed; what is in the store counts nevertheless."""
    assert meas.record is not None  # it was to be stored
    _take_in(state, meas.record)
    ended(state, meas, meas.record, now)
    return [do.warn(f"measurement {meas.meas_id} was stored after all: {result_view(meas.record)}")]


def _take_in(state: State, record: MeasurementRecord) -> None:
    """What is in the store is known here too."""
    if record.result_bytes is not None:
        _learn(state, record)
        state.standings.pop(record.fingerprint, None)
    else:
        state.failures[record.fingerprint] = state.failures.get(record.fingerprint, 0) + 1
        _hold_against(state, record)


def on_not_stored(state: State, event: MeasurementNotStored, now: Now) -> list[Effect]:
    """The store failed: tried again until the phase's deadline; what the last run left, for as long as that."""
    if event.meas_id in state.left_behind:
        return _left_not_stored(state, event, now)
    state.given_up.pop(event.meas_id, None)
    meas = state.measurements.get(event.meas_id)
    if meas is None or meas.phase is not Phase.SAVING or meas.record is None:
        return []
    meas.save_again_s = now.mono_s + SAVE_AGAIN_S
    return [do.Log(logging.ERROR, f"measurement {meas.meas_id} could not be stored: {event.reason}")]


def _left_not_stored(state: State, event: MeasurementNotStored, now: Now) -> list[Effect]:
    text = f"measurement {event.meas_id}, in which the last run ended, could not be stored: {event.reason}"
    if now.mono_s < state.started_mono_s + DEADLINES[Phase.SAVING](state.params):
        state.left_again_s = now.mono_s + SAVE_AGAIN_S
        return [do.Log(logging.ERROR, text)]
    record = state.left_behind.pop(event.meas_id)
    state.unsaved = True
    lost = f"measurement {event.meas_id} was not stored and is lost: {result_view(record)}"
    return [do.Log(logging.ERROR, text), do.Log(logging.ERROR, lost)]


def save_left_behind(state: State) -> list[Effect]:
    """Store the measurements in which the last run ended; it may have stored the record and no more."""
    state.left_again_s = None
    return [do.SaveMeasurement(record, if_absent=True) for record in state.left_behind.values()]


def on_store_failed(state: State, event: StoreFailed, now: Now) -> list[Effect]:
    """Plan and progress were not written: all of it is again."""
    state.save_again_s = now.mono_s + SAVE_AGAIN_S
    return []


def save_again(meas: Measurement) -> list[Effect]:
    """Try a record again that could not be stored."""
    meas.save_again_s = None
    return [do.SaveMeasurement(meas.record)] if meas.record else []


def give_up_saving(state: State, meas: Measurement, now: Now) -> list[Effect]:
    """The store did not take the record in time: watchers hear of a failure, the log keeps the record.

    What the store has in its hands it may take yet.
    """
    assert meas.record is not None
    lost_to = Failure(ErrorKind.LOCAL, "the result could not be stored (see the coordinator's log)")
    view = {**result_view(meas.record), "outcome": "failed", "failure": failure_view(lost_to)}
    lost = do.Log(
        logging.ERROR, f"measurement {meas.meas_id} was not stored and is lost: {result_view(meas.record)}"
    )
    if meas.save_again_s is None:
        state.given_up[meas.meas_id] = meas
    lost_record = replace(meas.record, result_bytes=None, accepted=False, team_limited=False, failure=lost_to)
    _forget(state, meas, lost_record, now)
    return [lost, *tell_watchers(meas, {"event": "done", **view})]


def _learn(state: State, record: MeasurementRecord) -> None:
    """What the next measurement goes by; a lower bound above an accepted result shows that the relay has grown."""
    known = state.results.get(record.fingerprint)
    grown = known is not None and (record.result_bytes or 0) > known.result_bytes
    if record.accepted or known is None or not known.accepted or grown:
        state.results[record.fingerprint] = LatestResult(
            fingerprint=record.fingerprint,
            nickname=record.nickname,
            mode=record.mode,
            ended_utc_s=record.ended_utc_s,
            result_bytes=record.result_bytes or 0,
            background_bytes=record.background_bytes or 0,
            accepted=record.accepted,
            bandwidth_avg_bytes=record.bandwidth_avg_bytes,
            team_limited=record.team_limited,
        )


def _hold_against(state: State, record: MeasurementRecord) -> None:
    """A failure that the relay caused counts until its next result, as the store counts it."""
    if record.failure is None or record.failure.fault is not Fault.RELAY:
        return
    before = state.standings.get(record.fingerprint)
    state.standings[record.fingerprint] = Standing(
        fingerprint=record.fingerprint,
        nickname=record.nickname,
        mode=record.mode,
        ended_utc_s=record.ended_utc_s,
        relay_failures=(before.relay_failures if before else 0) + 1,
        forgeries=(before.forgeries if before else 0) + record.failure.forged,
    )


def _end(state: State, meas: Measurement, record: MeasurementRecord, now: Now) -> list[Effect]:
    _forget(state, meas, record, now)
    done = tell_watchers(meas, {"event": "done", **result_view(record)})
    if record.result_bytes is None:
        return done
    bound = "" if record.accepted else " (a lower bound: too close to what was allocated)"
    if record.team_limited:
        bound = " (a lower bound: there is no more to load it with)"
    rate = f"{to_mbps(record.result_bytes):.3f} Mbit/s"
    return [do.info(f"measurement {meas.meas_id} of {record.nickname}: {rate}{bound}"), *done]


def _forget(state: State, meas: Measurement, record: MeasurementRecord, now: Now) -> None:
    """The measurement is over, with this outcome."""
    meas.advance(Trigger.STORED, now, state.params)
    del state.measurements[meas.meas_id]
    state.unsaved = True
    ended(state, meas, record, now)


def _stop_parts(state: State, meas: Measurement) -> list[Effect]:
    """Nothing of it goes on anywhere: the Tor client and each measurer that may still be at it hear so."""
    if meas.recorded_s is None:
        return []  # nobody has heard of it
    stops: list[Effect] = [
        do.SendToMeasurer(share.name, wire.Stop(meas_id=meas.meas_id, reason=_stop_reason(meas)))
        for share in meas.unfinished
        if len(share.reports) < state.params.duration_s and state.team[share.name].connected
    ]
    if meas.mode == "loop" or not state.tor_up or meas.relay_ended:
        return stops
    effect_id = state.new_id()
    state.tor_commands[effect_id] = (meas.meas_id, "stop")
    return [SendTorCommand(effect_id, commands.Stop(meas.meas_id).line(), STOP_TIMEOUT_S), *stops]


def _stop_reason(meas: Measurement) -> str:
    return meas.failure.reason if meas.failure else "the measurement is complete"


def _save(state: State, meas: Measurement, summed: Aggregate | None, now: Now) -> list[Effect]:
    meas.record = _record(state, meas, summed, now)
    return [do.SaveMeasurement(meas.record)]


def interrupted(state: State, left: InWork, now: Now) -> MeasurementRecord:
    """The record of a measurement in which the last run ended."""
    return MeasurementRecord(
        meas_id=left.meas_id,
        fingerprint=left.fingerprint,
        nickname=left.nickname,
        mode=left.mode,
        started_utc_s=left.started_utc_s,
        active_utc_s=None,
        ended_utc_s=max(now.utc_s, left.started_utc_s),
        duration_s=state.params.duration_s,
        background_ratio=float(state.params.background_ratio),
        shares=(),
        background=(),
        result_bytes=None,
        background_bytes=None,
        accepted=False,
        failure=Failure(ErrorKind.LOCAL, "the coordinator ended during the measurement"),
        bandwidth_avg_bytes=None,
    )


def _record(state: State, meas: Measurement, summed: Aggregate | None, now: Now) -> MeasurementRecord:
    result = summed.result_bytes if summed else None
    accepted = result is not None and state.params.accepts(
        result, meas.allocated_bytes, ours=meas.estimate.ours
    )
    return MeasurementRecord(
        meas_id=meas.meas_id,
        fingerprint=meas.relay.fingerprint,
        nickname=meas.relay.nickname,
        mode=meas.mode,
        started_utc_s=meas.begun.utc_s,
        active_utc_s=meas.started.utc_s + state.params.warmup_s if meas.started else None,
        ended_utc_s=now.utc_s,
        duration_s=state.params.duration_s,
        background_ratio=float(state.params.background_ratio),
        shares=tuple(
            MeasurerShare(
                share.name,
                share.allocated_bytes,
                share.n_circs,
                tuple(share.reports[n] for n in sorted(share.reports)),
            )
            for share in meas.shares.values()
        ),
        background=tuple(meas.background[n] for n in sorted(meas.background)),
        result_bytes=result,
        background_bytes=summed.background_bytes if summed else None,
        accepted=accepted,
        failure=meas.failure,
        bandwidth_avg_bytes=meas.relay.bandwidth_avg_bytes,
        team_limited=result is not None and not accepted and meas.limited,
    )
