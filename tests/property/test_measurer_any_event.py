"""The measurer's core takes every event in every phase: nothing that comes from outside raises or leaves a rest."""

from hypothesis import given, settings
from hypothesis import strategies as st

from flashflow.model.errors import ErrorKind
from flashflow.torctl import events as tor
from flashflow.torctl.client import TorCameUp, TorReplied, TorWasLost
from flashflow.torctl.reasons import Reason
from flashflow.wire import messages as wire
from measurer.core import effects as do
from measurer.core import events as ev
from measurer.core.measurement import Phase
from support.measurer_world import FAR_ENDS, World, in_phase, only
from support.wire_pair import order

IDS = st.integers(1, 3)
MODES = st.sampled_from(["echo", "loop"])
CIRCUITS = st.integers(1, 9).map(str)
REASONS = st.none() | st.sampled_from([*Reason, "SOMETHING_NEW"])
SAID = st.one_of(
    st.builds(order, IDS, n_circs=st.integers(1, 4), rate_bytes=st.integers(1, 6_000_000), mode=MODES),
    st.builds(wire.Go, meas_id=IDS),
    st.builds(wire.Stop, meas_id=IDS, reason=st.text(max_size=9)),
    st.builds(
        wire.Failure,
        meas_id=st.none() | IDS,
        code=st.just("X"),
        kind=st.sampled_from(ErrorKind),
        reason=st.just(""),
    ),
    st.builds(wire.ConnectedToRelay, meas_id=IDS, n_circs=st.just(1)),
).map(ev.CoordinatorSaid)
LAUNCHED = st.builds(
    lambda meas_id, circuits: f"FF_MEAS {meas_id} LAUNCHED CIRCS={','.join(circuits)}",
    IDS,
    st.lists(CIRCUITS, min_size=1, max_size=4, unique=True),
)
TOR = st.one_of(
    st.builds(
        tor.CircEvent, CIRCUITS, st.sampled_from(["LAUNCHED", "BUILT", "FAILED", "CLOSED", "?"]), REASONS
    ),
    st.builds(tor.BwReport, IDS, st.integers(0, 12), st.integers(0, 10**19), st.integers(0, 10**19)),
    st.builds(tor.MeasEnd, IDS, st.booleans(), REASONS),
    st.builds(tor.ParamsSent, IDS),
    st.builds(tor.EventError, st.text(max_size=9)),
    st.builds(TorReplied, st.integers(1, 12), st.booleans(), LAUNCHED | st.text(max_size=20)),
)
REST = st.sampled_from(
    [
        TorCameUp(),
        TorWasLost("gone"),
        ev.LinkUp("h", resumed=True),
        ev.LinkUp("h", resumed=False),
        ev.LinkDown("cut", 400.0),
        ev.LinkFailed("no", 1.0),
        ev.StopRequested(),
    ]
)
FAR = st.builds(ev.FarEndReady, st.integers(1, 12), st.just(FAR_ENDS)) | st.builds(
    ev.FarEndEnded, st.integers(1, 12), st.text(max_size=9)
)
STEPS = st.lists(st.one_of(SAID, TOR, FAR, REST, st.floats(0.1, 12.0)), max_size=50)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.sampled_from([None, *Phase]), MODES)
def test_any_events_in_any_phase(steps: list[object], phase: Phase | None, mode: str) -> None:
    world = World().up() if phase is None else in_phase(phase, mode)
    for step in steps:
        if isinstance(step, float):
            world.advance(step)
        else:
            world.say(step)
    world.say(ev.StopRequested())
    world.advance(1000.0)
    state = world.core.state
    assert state.measurements == state.calls == state.early_circuits == {}
    assert world.core.next_timer() is None
    assert len(only(world.effects, do.StopService)) == 1
    started = [effect.effect_id for effect in only(world.effects, do.StartFarEnd)]
    over = [effect.effect_id for effect in only(world.effects, do.StopFarEnd)]
    by_itself = [step.effect_id for step in steps if isinstance(step, ev.FarEndEnded)]
    assert len(over) == len(set(over))
    assert set(over) <= set(started) <= {*over, *by_itself}
