"""Rows of docs/conformance.md on the measurer's side that the other scenarios do not show."""

from flashflow.torctl import events as tor
from flashflow.torctl.client import TorCameUp, TorWasLost
from flashflow.wire import messages as wire
from support.measurer_world import World, failures, lines, sent


def test_a_start_that_is_refused_is_told_and_leaves_nothing_behind() -> None:
    world = World().up()
    world.launch()
    world.built(1, 2, 3, 4)
    effects = world.reply(world.coordinator(wire.Go(meas_id=1)), "not now", ok=False)
    assert failures(effects) == [(1, "M_START_ACTIVE_MEAS", "local")]
    assert "not now" in sent(effects)[0].reason  # type: ignore[union-attr]
    assert lines(effects) == ["FF_STOP 1"]
    world.say(tor.MeasEnd(1, success=False, reason="STOPPED"))
    assert not world.core.state.measurements
    assert not world.core.state.calls
    world.active()  # the same id may come again


def test_the_first_measurement_after_a_lost_tor_client_goes_through() -> None:
    world = World().up().active()
    world.say(TorWasLost("it ended with status -9"), TorCameUp())
    world.active()
    for second in range(1, 11):
        assert len(sent(world.say(tor.BwReport(1, second, 100, 100)))) == 1
    assert failures(world.say(tor.MeasEnd(1, success=True))) == []
