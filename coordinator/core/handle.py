"""The core's two doors: `handle` takes an event in and gives effects, `next_timer` says when to wake it."""

from collections.abc import Callable
from typing import Any

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core import finish, kept, on_ctrl, on_measurer, on_slot, on_tor
from coordinator.core.assign import on_progress_stored, start_what_fits
from coordinator.core.effects import Effect
from coordinator.core.params import Params
from coordinator.core.state import State
from flashflow.model.clock import Now, TimerFired
from flashflow.torctl import events as tor
from flashflow.torctl.client import TorCameUp, TorReplied, TorWasLost

HANDLERS: dict[type, Callable[[State, Any, Now], list[Effect]]] = {
    ev.Started: on_slot.on_started,
    ev.RelaysLoaded: on_slot.on_relays,
    ev.RelaysFailed: on_slot.on_relays_failed,
    ev.RelayOffered: on_slot.on_offered,
    ev.RelayGone: on_slot.on_gone,
    ev.StopRequested: on_slot.on_stop,
    TimerFired: on_slot.on_timer,
    ev.MeasurerJoined: on_measurer.on_joined,
    ev.MeasurerGone: on_measurer.on_gone,
    ev.MeasurerSaid: on_measurer.on_message,
    ev.CtrlSaid: on_ctrl.on_line,
    ev.CtrlClosed: on_ctrl.on_closed,
    ev.ResultsRead: on_ctrl.on_results,
    ev.V3bwWritten: on_ctrl.on_v3bw,
    TorCameUp: on_tor.on_up,
    TorWasLost: on_tor.on_lost,
    TorReplied: on_tor.on_reply,
    tor.CircEvent: on_tor.on_circ,
    tor.ParamsSent: on_tor.on_ff_meas,
    tor.ParamsOk: on_tor.on_ff_meas,
    tor.BwReport: on_tor.on_ff_meas,
    tor.MeasEnd: on_tor.on_ff_meas,
    tor.EventError: on_tor.on_malformed,
    ev.MeasurementStored: finish.on_stored,
    ev.MeasurementNotStored: finish.on_not_stored,
    ev.ProgressStored: on_progress_stored,
    ev.StoreFailed: finish.on_store_failed,
}
"""Event -> its handler; an event that is not here is a bug and raises KeyError."""


class Coordinator:
    """Owns the State; nothing else changes it."""

    def __init__(self, params: Params) -> None:
        self.state = State(params)
        self._next_timer: float | None = None

    def handle(self, event: Any, now: Now) -> list[Effect]:
        """One event in, effects out, in order; then whatever now fits is started."""
        effects = HANDLERS[type(event)](self.state, event, now)
        effects += start_what_fits(self.state, now)
        state = self.state
        effects = [*kept.save(state), *effects]  # the store hears first
        if state.draining and not state.measurements and not state.stopped:
            state.stopped = True
            effects.append(do.StopService())
        self._next_timer = on_slot.next_timer(state, now)
        return effects

    def next_timer(self) -> float | None:
        """Monotonic time at which TimerFired is wanted."""
        return self._next_timer
