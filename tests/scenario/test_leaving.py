"""A measurer that was told to end says so: it is given nothing new, and what it has in work is finished."""

import pytest

from coordinator.core import effects as do
from coordinator.core import events as ev
from flashflow.model.errors import ErrorKind
from flashflow.wire import messages as wire
from measurer.core import effects as mdo
from measurer.core import events as mev
from support.coordinator_world import World as CoordinatorWorld
from support.joined_world import World
from support.measurer_world import World as MeasurerWorld
from support.measurer_world import failures, only

LEAVING = [(None, wire.DRAINING, "local")]


def shown(world: CoordinatorWorld) -> dict[str, tuple[bool, bool]]:
    return {row["name"]: (row["connected"], row["leaving"]) for row in world.shown_team()}


def test_a_measurer_says_that_it_leaves_before_it_ends() -> None:
    world = MeasurerWorld().up()
    effects = world.say(mev.StopRequested())
    assert failures(effects) == LEAVING
    kinds = [type(effect) for effect in effects]
    assert kinds.index(mdo.SendToCoordinator) < kinds.index(mdo.StopService)
    assert failures(world.say(mev.StopRequested())) == [], "the second signal finds it told"


@pytest.mark.parametrize("resumed", [True, False])
def test_it_says_so_again_on_each_connection_while_it_drains(resumed: bool) -> None:
    world = MeasurerWorld().up().active()
    world.say(mev.LinkUp("h", resumed=True), mev.LinkDown("cut", world.mono_s))
    assert failures(world.say(mev.StopRequested())) == [], "nobody hears it now"
    assert failures(world.say(mev.LinkUp("h", resumed=resumed))) == LEAVING


def test_one_that_is_not_connected_ends_without_a_word() -> None:
    world = MeasurerWorld()
    effects = world.say(mev.StopRequested())
    assert failures(effects) == []
    assert len(only(effects, mdo.StopService)) == 1
    live = MeasurerWorld().up()
    assert failures(live.say(mev.LinkUp("h", resumed=True))) == [], "one that stays says nothing"


def test_who_leaves_is_given_nothing_new_and_shown_as_such_until_it_begins_anew() -> None:
    world = CoordinatorWorld()
    world.start()
    leaving = wire.Failure(meas_id=None, code=wire.DRAINING, kind=ErrorKind.LOCAL, reason="ends")
    (told,) = world.say(ev.MeasurerSaid("m1", leaving))
    assert isinstance(told, do.Log)
    assert "m1 is leaving" in told.text
    assert world.say(ev.MeasurerSaid("m1", leaving)) == [], "told once"
    world.to_phase("launching")
    assert [*world.meas.shares] == ["m2"]
    assert shown(world) == {"m1": (True, True), "m2": (True, False)}
    assert world.ctrl("status")["measurers"] == 1
    world.say(ev.MeasurerSaid("m2", leaving))
    assert world.ctrl("measure relay2")["error"] == "every measurer is leaving"
    world.say(ev.MeasurerJoined("m2", 62_500_000, "127.0.0.1"))
    world.say(ev.MeasurerGone("m1", "it ended"))
    assert shown(world)["m1"] == (False, False)
    world.say(ev.MeasurerJoined("m1", 62_500_000, "127.0.0.1"))
    assert shown(world)["m1"] == (True, False)
    assert [one.name for one in world.core.state.connected_team()] == ["m1", "m2"]


def test_another_failure_of_a_measurers_own_is_no_leave() -> None:
    world = CoordinatorWorld()
    world.start()
    world.say(ev.MeasurerSaid("m1", wire.Failure(meas_id=None, code="X", kind=ErrorKind.LOCAL, reason="r")))
    assert len(world.core.state.connected_team()) == 2


@pytest.mark.parametrize("mode", ["echo", "loop"])
def test_what_is_asked_for_while_a_measurer_is_on_its_way_out_is_measured_by_the_others(mode: str) -> None:
    """SIGTERM with nothing in work: the process ends at once, its session counts as there for 5 s more."""
    world = World(mode)
    host = world.measurers["m1"]
    host.say(mev.StopRequested())
    world.sleep(0.1)
    host.end()
    meas_id = world.measure(1)
    assert meas_id is not None
    record = world.measured(meas_id, 30.0)
    assert record is not None
    assert record.failure is None
    assert [share.name for share in record.shares] == ["m2"]


@pytest.mark.parametrize("mode", ["echo", "loop"])
def test_what_it_has_in_work_when_it_is_told_is_finished(mode: str) -> None:
    world = World(mode)
    meas_id = world.measure(1)
    assert world.until_phase(meas_id, "active", 1.0)
    world.measurers["m1"].say(mev.StopRequested())
    record = world.measured(meas_id, 30.0)
    assert record is not None
    assert record.failure is None
    assert [len(share.reports) for share in record.shares] == [5, 5]
