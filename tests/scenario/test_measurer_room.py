"""A measurer's own limit, from one measurement to the next."""

from flashflow.torctl import events as tor
from flashflow.wire import messages as wire
from measurer.core.measurement import Phase
from support.measurer_world import MAX_RATE_BYTES, World, failures
from support.wire_pair import order


def test_a_measurement_that_has_reported_its_last_second_leaves_its_rate_to_the_next() -> None:
    """The coordinator has all it wants then, and may begin another before the Tor client has told the end."""
    world = World().up()
    world.launch(1, rate_bytes=MAX_RATE_BYTES)
    world.built(1, 2, 3, 4)
    world.reply(world.coordinator(wire.Go(meas_id=1)))
    last = order(1).dur_s
    world.say(*(tor.BwReport(1, second, 10, 10) for second in range(1, last)))
    assert failures(world.coordinator(order(2))) == [(2, "RATE_EXCEEDED", "local")]
    world.say(tor.BwReport(1, last, 10, 10))
    assert world.phase(1) is Phase.ACTIVE
    assert failures(world.coordinator(order(3))) == []
