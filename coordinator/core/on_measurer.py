"""What measurers say. A message that is not legal is denied and ends that measurer's part, never anything else."""

from collections.abc import Callable
from typing import Any

from coordinator.core import effects as do
from coordinator.core.aggregate import max_left_out
from coordinator.core.effects import Effect
from coordinator.core.events import MeasurerGone, MeasurerJoined, MeasurerSaid
from coordinator.core.finish import complete, fail
from coordinator.core.measurement import MEASURER_LEGAL, RUNNING, Measurement, Phase, Share
from coordinator.core.on_tor import begin
from coordinator.core.progress import has_all_reports, show_seconds
from coordinator.core.state import Measurer, State
from flashflow.model.clock import Now
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import MeasId
from flashflow.model.reports import SecondReport
from flashflow.model.results import Failure
from flashflow.wire import messages as wire


def on_joined(state: State, event: MeasurerJoined, now: Now) -> list[Effect]:
    """A measurer has a live session, for the first time or again."""
    state.team[event.name] = Measurer(event.name, event.capacity_bytes, event.host)
    return [do.info(f"measurer {event.name} joined from {event.host}")]


def on_gone(state: State, event: MeasurerGone, now: Now) -> list[Effect]:
    """Its part of every measurement has failed."""
    measurer = state.team.get(event.name)
    if measurer is None:
        return []
    measurer.connected = False
    reason = f"measurer {event.name} was lost: {event.reason}"
    failure = Failure(ErrorKind.NETWORK, reason, by_measurer=True)
    effects: list[Effect] = [do.warn(f"measurer {event.name} is gone: {event.reason}")]
    for meas in list(state.measurements.values()):
        if event.name in meas.shares:
            effects += fail_share(state, meas, meas.shares[event.name], failure, now)
    return effects


def fail_share(state: State, meas: Measurement, share: Share, failure: Failure, now: Now) -> list[Effect]:
    """One measurer's part ended early: the measurement too, unless so few seconds are missing that it still counts."""
    if share.failure is not None or meas.phase not in RUNNING or state.params.duration_s in share.reports:
        return []
    share.failure = failure
    missing = state.params.duration_s - len(share.reports)
    relays_fault = failure.kind is ErrorKind.PEER
    suspected = meas.suspicion is not None or (relays_fault and meas.mode == "echo")
    if suspected and not failure.forged:
        meas.suspect(failure, now)
        return []
    if meas.phase is not Phase.ACTIVE or relays_fault or missing > max_left_out(state.params.duration_s):
        return fail(state, meas, failure, now)
    return complete(state, meas, now) if has_all_reports(state, meas) else []


def on_message(state: State, event: MeasurerSaid, now: Now) -> list[Effect]:
    """Check that it may be sent by this measurer in this phase, then handle it by type."""
    message = event.message
    if isinstance(message, wire.Failure) and message.meas_id is None:
        return _on_own_failure(state, event.name, message)
    legal = MEASURER_LEGAL.get(type(message))
    if legal is None:
        return _deny(event, None, f"a measurer may not send {type(message).__name__}")
    meas_id = getattr(message, "meas_id", None)
    meas = state.measurements.get(MeasId(meas_id)) if meas_id else None
    if meas is None or event.name not in meas.shares:
        return _unknown(event, meas_id)
    if meas.phase not in RUNNING:
        return []  # too late to matter, which is no fault
    if meas.phase not in legal:
        return _offend(state, meas, event, f"{type(message).__name__} came while {meas.phase.value}", now)
    return _HANDLERS[type(message)](state, meas, meas.shares[event.name], message, now)


def _on_own_failure(state: State, name: str, message: wire.Failure) -> list[Effect]:
    """A measurer on itself: it leaves, which only a new session takes back, or something for the log."""
    measurer = state.team.get(name)
    if message.code != wire.DRAINING or measurer is None:
        return [do.LogRefusal(name, f"{message.code}: {message.reason}")]
    if measurer.leaving:
        return []
    measurer.leaving = True
    return [do.info(f"measurer {name} is leaving: it is given nothing new")]


def _unknown(event: MeasurerSaid, meas_id: int | None) -> list[Effect]:
    if isinstance(event.message, wire.Failure):
        return []  # the measurement has ended meanwhile
    return _deny(event, meas_id, f"no measurement {meas_id} of yours is in work")


def _deny(event: MeasurerSaid, meas_id: int | None, reason: str) -> list[Effect]:
    denial = wire.Failure(meas_id=meas_id, code="M_UNKNOWN_MEAS_ID", kind=ErrorKind.PEER, reason=reason)
    return [do.LogRefusal(event.name, reason), do.SendToMeasurer(event.name, denial)]


def _offend(state: State, meas: Measurement, event: MeasurerSaid, what: str, now: Now) -> list[Effect]:
    failure = Failure(ErrorKind.LOCAL, f"measurer {event.name} broke the protocol: {what}", by_measurer=True)
    share = meas.shares[event.name]
    return [*_deny(event, meas.meas_id, what), *fail_share(state, meas, share, failure, now)]


def _on_connected(
    state: State, meas: Measurement, share: Share, message: wire.ConnectedToRelay, now: Now
) -> list[Effect]:
    if share.connected or not share.n_circs <= 2 * message.n_circs <= 2 * share.n_circs:
        said = MeasurerSaid(share.name, message)
        what = (
            "a second ConnectedToRelay"
            if share.connected
            else f"{message.n_circs} of {share.n_circs} circuits"
        )
        return _offend(state, meas, said, what, now)
    share.connected = True
    if all(other.connected for other in meas.shares.values()):
        return begin(state, meas, now)
    return []


def _on_report(
    state: State, meas: Measurement, share: Share, message: wire.BwReport, now: Now
) -> list[Effect]:
    report = SecondReport(message.second, message.sent_bytes, message.recv_bytes)
    if share.failure is not None or share.reports.get(report.second) == report:
        return []
    expected = len(share.reports) + 1
    assert meas.started is not None  # set on entering ACTIVE
    age_s = now.mono_s - meas.started.mono_s
    what = None
    if report.second != expected or report.second > state.params.duration_s:
        what = f"report {report.second} (expected {expected} of {state.params.duration_s})"
    elif age_s < state.params.warmup_s + report.second - 1.0:
        what = f"report {report.second} only {age_s:.1f} s after Go"
    if what:
        return _offend(state, meas, MeasurerSaid(share.name, message), what, now)
    share.reports[report.second] = report
    effects = show_seconds(state, meas)
    return effects + (complete(state, meas, now) if has_all_reports(state, meas) else [])


def _on_failure(
    state: State, meas: Measurement, share: Share, message: wire.Failure, now: Now
) -> list[Effect]:
    kind = ErrorKind(message.kind)
    failure = Failure(
        kind,
        f"measurer {share.name}: {message.code}: {message.reason}",
        by_measurer=kind in (ErrorKind.LOCAL, ErrorKind.BUG),
        forged=message.code == wire.ECHO_FORGED and kind is ErrorKind.PEER,
    )
    return fail_share(state, meas, share, failure, now)


_HANDLERS: dict[type, Callable[[State, Measurement, Share, Any, Now], list[Effect]]] = {
    wire.ConnectedToRelay: _on_connected,
    wire.BwReport: _on_report,
    wire.Failure: _on_failure,
}
