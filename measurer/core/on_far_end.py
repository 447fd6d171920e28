"""What comes of the far end of a loop measurement: it listens, or it is gone."""

from flashflow.model.clock import Now
from flashflow.model.errors import ErrorKind
from flashflow.wire import messages as wire
from measurer.core.effects import Effect
from measurer.core.events import FarEndEnded, FarEndReady
from measurer.core.finish import fail, launch
from measurer.core.measurement import Measurement, Phase, Trigger, enter
from measurer.core.state import State


def on_ready(state: State, event: FarEndReady, now: Now) -> list[Effect]:
    """It listens: now the circuits that lead to it can be built."""
    meas = _find(state, event.effect_id)
    if meas is None or meas.phase is not Phase.PREPARING:
        return []
    enter(meas, Trigger.PREPARED, now)
    return [launch(state, meas, event.far_ends)]


def on_ended(state: State, event: FarEndEnded, now: Now) -> list[Effect]:
    """It could not be started, or it ended by itself: the measurement has failed."""
    meas = _find(state, event.effect_id)
    if meas is None:
        return []
    meas.far_end_id = None
    code = wire.LAUNCH_CIRCS if meas.phase is Phase.PREPARING else wire.MEASUREMENT_FAILED
    return fail(state, meas, code, ErrorKind.LOCAL, event.reason, now)


def _find(state: State, effect_id: int) -> Measurement | None:
    return next((meas for meas in state.measurements.values() if meas.far_end_id == effect_id), None)
