"""Whatever comes, in whatever order: torclient's core never raises, and every run keeps a deadline."""

from hypothesis import given, settings
from hypothesis import strategies as st

from flashflow.model.clock import TimerFired
from flashflow.model.ids import MeasId
from flashflow.torclient.core.events import CommandReceived, ControlClosed, WorkerDied, WorkerSpoke
from flashflow.torclient.core.messages import (
    BackgroundCounted,
    CircuitBuilt,
    CircuitEnded,
    CreateRepeated,
    ParamsAnswered,
    ParamsWereSent,
    ShareEnded,
)
from flashflow.torctl.commands import CoordStart, MeasrStart, Stop
from support.torclient_core import CoreWorld, announced, coord, loop, measr

IDS = st.integers(1, 3)
COMMANDS = st.one_of(
    st.builds(measr, meas_id=IDS, n_circs=st.integers(1, 5)),
    st.builds(loop, meas_id=IDS, n_circs=st.integers(1, 40)),
    st.builds(coord, meas_id=IDS),
    st.builds(lambda meas_id: MeasrStart(MeasId(meas_id), measr().fingerprint, 2, 3), IDS),
    st.builds(lambda meas_id: CoordStart(MeasId(meas_id), measr().fingerprint, 5), IDS),
    st.builds(lambda meas_id: Stop(MeasId(meas_id)), IDS),
)
REASONS = st.sampled_from(["RELAY_CLOSED", "LINK_FAILED", "ECHO_WRONG"])
OF_THE_RELAY = st.one_of(
    st.builds(ParamsAnswered, IDS, st.none() | REASONS),
    st.builds(
        BackgroundCounted, IDS, st.integers(0, 70_000), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)
    ),
)
EVENTS = st.one_of(
    st.builds(CommandReceived, st.integers(1, 2), COMMANDS),
    st.builds(ControlClosed, st.integers(1, 2)),
    st.builds(WorkerDied, st.integers(0, 1)),
    st.just(TimerFired()),
)


class _Circuits(CoreWorld):
    """Workers that only speak of what they were told, the relay behind them of anything."""

    def coord_runs(self):
        return [run for run in self.core._runs.values() if type(run).__name__ == "CoordRun"]

    def measr_runs(self):
        return [run for run in self.core._runs.values() if type(run).__name__ == "MeasrRun"]

    def circuits(self):
        return [
            (run.run, circ_id, built)
            for run in self.core._runs.values()
            for circ_id, built in run.circuits.items()
        ]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_core_takes_anything(data):
    world = _Circuits()
    for _ in range(data.draw(st.integers(1, 40))):
        world.now_s += data.draw(st.sampled_from([0.0, 0.5, 11.0]))
        kind = data.draw(st.sampled_from(["event", "circuit", "repeat", "relay", "cheat"]))
        if kind == "circuit" and (circuits := world.circuits()):
            run, circ_id, built = data.draw(st.sampled_from(circuits))
            ended = CircuitEnded(run, circ_id, data.draw(REASONS), "")
            world.do(
                WorkerSpoke(0, ended if built or data.draw(st.booleans()) else CircuitBuilt(run, circ_id))
            )
        elif kind == "repeat" and (runs := world.measr_runs()):
            run = data.draw(st.sampled_from(runs))
            world.do(WorkerSpoke(0, CreateRepeated(run.run, data.draw(st.sampled_from([*run.circuits, 99])))))
        elif kind == "cheat" and (runs := world.measr_runs()):
            run = data.draw(st.sampled_from(runs)).run
            world.do(WorkerSpoke(data.draw(st.integers(0, 1)), ShareEnded(run, data.draw(REASONS), "")))
        elif kind == "relay" and (runs := world.coord_runs()):
            message = data.draw(OF_THE_RELAY | st.builds(ParamsWereSent, IDS))
            world.do(
                WorkerSpoke(0, type(message)(data.draw(st.sampled_from(runs)).run, *_fields(message)[1:]))
            )
        else:
            world.do(data.draw(EVENTS))
        assert all(run.deadline_s > 0 for run in world.core._runs.values())
    while world.core.next_timer() is not None:
        world.pass_time()
    begun = [
        effect for effect in world.effects if getattr(effect, "code", 0) == 250 and "LAUNCHED" in effect.text
    ]
    assert sum(line.startswith("FF_MEAS END") for line in announced(world.effects)) == len(begun)


def _fields(message):
    return [getattr(message, name) for name in type(message).__dataclass_fields__]
