"""The core: one event in, effects out; the sole mutator of State."""

from collections.abc import Callable, Sequence
from typing import Any

from flashflow.model.clock import Now, TimerFired
from flashflow.torctl import events as tor
from flashflow.torctl.client import TorCameUp, TorReplied, TorWasLost
from measurer.core import effects as do
from measurer.core import events as ev
from measurer.core import on_coordinator, on_far_end, on_time, on_tor
from measurer.core.effects import Effect
from measurer.core.finish import end_if_drained, tell_leaving
from measurer.core.state import Limits, State


def _on_stop_requested(state: State, event: ev.StopRequested, now: Now) -> list[Effect]:
    if state.draining:
        return []
    state.draining = True
    draining = do.info(f"draining: {len(state.measurements)} measurements run")
    return [draining, *tell_leaving(state), *end_if_drained(state)]


def _on_params(state: State, event: object, now: Now) -> list[Effect]:
    return []  # the coordinator's circuit; a measurer's Tor client has none


def _on_malformed(state: State, event: tor.EventError, now: Now) -> list[Effect]:
    return [do.warn(f"the Tor client: {event.reason}")]  # the phase's deadline sees to the measurement


_HANDLERS: dict[type, Callable[[State, Any, Now], list[Effect]]] = {
    ev.LinkUp: on_coordinator.on_link_up,
    ev.LinkDown: on_coordinator.on_link_down,
    ev.LinkFailed: on_coordinator.on_link_failed,
    ev.CoordinatorSaid: on_coordinator.on_said,
    TorCameUp: on_tor.on_up,
    TorWasLost: on_tor.on_lost,
    TorReplied: on_tor.on_replied,
    ev.FarEndReady: on_far_end.on_ready,
    ev.FarEndEnded: on_far_end.on_ended,
    ev.StopRequested: _on_stop_requested,
    tor.CircEvent: on_tor.on_circuit,
    tor.BwReport: on_tor.on_report,
    tor.MeasEnd: on_tor.on_end,
    tor.EventError: _on_malformed,
    tor.ParamsSent: _on_params,
    tor.ParamsOk: _on_params,
    TimerFired: on_time.on_timer,
}


class MeasurerCore:
    """Pure: no clock, no I/O, no entropy."""

    def __init__(self, limits: Limits) -> None:
        self.state = State(limits)

    def handle(self, event: object, now: Now) -> Sequence[Effect]:
        """Take one event in and give the effects in order."""
        return _HANDLERS[type(event)](self.state, event, now)

    def next_timer(self) -> float | None:
        """Monotonic time at which TimerFired is wanted, or None."""
        return on_time.next_timer(self.state)
