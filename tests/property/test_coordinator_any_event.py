"""Whatever comes from outside, in whatever phase, the core takes it: it never raises, and it replays bit for bit."""

import pickle
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import effects as do
from coordinator.core import events as ev
from flashflow.directory.filter import RelayFilter
from flashflow.model.clock import TimerFired
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import MeasId
from flashflow.torctl import events as tor
from flashflow.torctl.client import TorCameUp, TorReplied, TorWasLost
from flashflow.wire import messages as wire
from support.coordinator_world import World, relay

PHASES = ["recording", "launching", "params", "connecting", "starting", "active"]
KNOWN = 0  # stands for the running measurement's id
ids = st.sampled_from([KNOWN, KNOWN, KNOWN, 1, 2**32 - 1])
names = st.sampled_from(["m1", "m2", "stranger"])
seconds = st.integers(0, 12)
counts = st.integers(0, 2**50)
reasons = st.sampled_from([None, "RELAY_CLOSED", "ECHO_WRONG", "NOT_SUPPORTED", "NONSENSE"])
lines = st.sampled_from(
    ["measure relay1 wait", "measure relay2", "status", "measurers", "relays", "results", "v3bw"]
)

tor_events = st.one_of(
    st.builds(
        tor.CircEvent,
        st.sampled_from(["7", "8"]),
        st.sampled_from(["BUILT", "CLOSED", "FAILED", "ODD"]),
        reasons,
    ),
    st.builds(tor.ParamsSent, ids),
    st.builds(tor.ParamsOk, ids, st.booleans(), reasons),
    st.builds(tor.BwReport, ids, seconds, counts, counts),
    st.builds(tor.MeasEnd, ids, st.booleans(), reasons),
    st.builds(tor.EventError, st.text(max_size=9)),
)
said = st.one_of(
    st.builds(lambda i, n: ("ConnectedToRelay", i, n), ids, st.integers(1, 160)),
    st.builds(lambda i, s, a, b: ("BwReport", i, s, a, b), ids, st.integers(1, 12), counts, counts),
    st.builds(lambda i, k: ("Failure", i, k), ids, st.sampled_from(list(ErrorKind))),
    st.builds(lambda i, k: ("Go", i), ids, st.none()),
    st.builds(lambda i, k: ("Stop", i), ids, st.none()),
)
steps = st.one_of(
    tor_events,
    st.tuples(st.just("said"), names, said),
    st.tuples(st.just("ctrl"), st.one_of(lines, st.text(max_size=30))),
    st.tuples(st.just("cancel"), ids),
    st.tuples(st.just("sleep"), st.sampled_from([0.1, 1.0, 3.0, 20.0, 70.0])),
    st.tuples(st.just("reply"), st.booleans(), st.sampled_from(["LAUNCHED 7", "OK", ""]), st.integers(1, 12)),
    st.tuples(st.just("stored"), ids, st.booleans()),
    st.builds(ev.MeasurerGone, names, st.just("x")),
    st.builds(ev.MeasurerJoined, names, st.integers(1, 2**40), st.just("127.0.0.1")),
    st.builds(TorWasLost, st.just("x")),
    st.just(TorCameUp()),
    st.just(TimerFired()),
    st.just(ev.RelaysLoaded((relay(2), relay(3)), RelayFilter())),
    st.just(ev.RelaysFailed("x")),
    st.builds(ev.ProgressStored, st.tuples(ids)),
    st.just(ev.StoreFailed("x")),
    st.builds(ev.V3bwWritten, st.integers(1, 12), st.none(), st.just(0), st.none()),
    st.builds(ev.ResultsRead, st.integers(1, 12), st.just(()), st.none()),
    st.builds(ev.CtrlClosed, st.just(1)),
    st.just(ev.StopRequested()),
)


def message(what: tuple[Any, ...], meas_id: int) -> wire.Message:
    kind, *rest = what
    if kind == "ConnectedToRelay":
        return wire.ConnectedToRelay(meas_id=meas_id, n_circs=rest[1])
    if kind == "BwReport":
        return wire.BwReport(meas_id=meas_id, second=rest[1], sent_bytes=rest[2], recv_bytes=rest[3])
    if kind == "Failure":
        return wire.Failure(meas_id=meas_id, code="X", kind=rest[1], reason="x")
    return wire.Go(meas_id=meas_id) if kind == "Go" else wire.Stop(meas_id=meas_id, reason="x")


def play(world: World, step: Any, known: int) -> None:
    """One step; KNOWN becomes the measurement's id."""
    if not isinstance(step, tuple):
        if getattr(step, "meas_id", None) == KNOWN:
            step = type(step)(known, *[getattr(step, name) for name in list(step.__slots__)[1:]])
        if isinstance(step, ev.ProgressStored):
            step = ev.ProgressStored(tuple(MeasId(meas_id or known) for meas_id in step.in_work))
        world.say(step)
        return
    kind, *rest = step
    if kind == "said":
        world.say(ev.MeasurerSaid(rest[0], message(rest[1], rest[1][1] or known)))
    elif kind in ("ctrl", "cancel"):
        world.say(ev.CtrlSaid(1, rest[0] if kind == "ctrl" else f"cancel {rest[0] or known}"))
    elif kind == "sleep":
        world.sleep(rest[0])
    elif kind == "reply":
        world.say(TorReplied(rest[2], rest[0], rest[1]))
    else:
        meas_id = MeasId(rest[0] or known)
        world.say(ev.MeasurementStored(meas_id) if rest[1] else ev.MeasurementNotStored(meas_id, "x"))


def run(phase: str, script: list[Any]) -> World:
    world = World()
    world.start()
    known = world.to_phase(phase)
    for step in script:
        play(world, step, known)
    return world


@given(st.sampled_from(PHASES), st.lists(steps, max_size=12))
@settings(deadline=None, max_examples=200)
def test_never_raises_and_every_measurement_ends(phase: str, script: list[Any]) -> None:
    world = run(phase, script)
    world.say(ev.StopRequested())
    world.sleep(300)
    assert not world.core.state.measurements
    assert len(world.of(do.StopService)) == 1
    done = [e["meas_id"] for e in world.events_to(1, "done")]
    assert len(done) == len(set(done))


@given(st.sampled_from(PHASES), st.lists(steps, max_size=8))
@settings(deadline=None, max_examples=50)
def test_the_same_inputs_give_the_same_state_and_effects(phase: str, script: list[Any]) -> None:
    first, second = run(phase, script), run(phase, script)
    assert repr(first.core.state) == repr(second.core.state)
    assert first.effects == second.effects


def test_effects_can_be_recorded() -> None:
    world = run("active", [])
    plain = [e for e in world.effects if not isinstance(e, do.SendToMeasurer)]
    assert pickle.loads(pickle.dumps(plain)) == plain
