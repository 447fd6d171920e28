"""Whose fault it is when one event is told by several: a measurer's word against a relay waits for the Tor client's."""

from typing import Any

import pytest

from coordinator.core import events as ev
from flashflow.model.errors import ErrorKind
from flashflow.torctl import events as tor
from flashflow.torctl.client import TorWasLost
from flashflow.wire import messages as wire
from support.coordinator_world import World


@pytest.fixture
def world() -> World:
    made = World()
    made.start()
    return made


def blame(world: World, name: str, code: str = wire.MEASUREMENT_FAILED, kind: str = "peer") -> None:
    message = wire.Failure(
        meas_id=world.meas.meas_id, code=code, kind=ErrorKind(kind), reason=f"{name}: over"
    )
    world.say(ev.MeasurerSaid(name, message))


def fault(failure: dict[str, Any]) -> tuple[str, bool]:
    return failure["fault"], failure["forged"]


@pytest.mark.parametrize("phase", ["connecting", "starting", "active"])
def test_a_relay_that_ends_because_our_tor_client_died_is_not_to_blame(world: World, phase: str) -> None:
    world.to_phase(phase)
    blame(world, "m1")
    world.say(TorWasLost("the Tor client ended with status -9"))
    failure = world.store()["failure"]
    assert (failure["fault"], "Tor client was lost" in failure["reason"]) == ("ours", True)


def test_without_such_news_it_is_the_relays_fault_a_second_later(world: World) -> None:
    world.to_phase("active")
    blame(world, "m1")
    world.sleep(0.9)
    assert world.meas.phase.value == "active"
    world.sleep(0.2)
    assert fault(world.store()["failure"]) == ("relay", False)


def test_what_others_say_meanwhile_changes_nothing(world: World) -> None:
    world.to_phase("active")
    blame(world, "m1")
    blame(world, "m2", kind="network")
    world.say(tor.CircEvent(str(world.meas.circ_id), "CLOSED", "DESTROYED"))
    world.sleep(1.1)
    failure = world.store()["failure"]
    assert (failure["fault"], "m1: over" in failure["reason"]) == ("relay", True)


def test_the_tor_clients_own_reason_counts_more(world: World) -> None:
    meas_id = world.to_phase("active")
    blame(world, "m1")
    world.say(tor.MeasEnd(meas_id, False, "LINK_FAILED"))
    assert fault(world.store()["failure"]) == ("network", False)


def test_a_forgery_is_never_excused(world: World) -> None:
    world.to_phase("active")
    blame(world, "m1")
    blame(world, "m2", wire.ECHO_FORGED)
    assert fault(world.store()["failure"]) == ("relay", True)


def test_the_others_last_reports_make_no_result_of_it(world: World) -> None:
    world.to_phase("active")
    world.play_seconds(1, 6)
    blame(world, "m1")
    world.sleep(0.9)
    world.report("m2", 5, 1_000_000)
    world.background(7, 0, 0)
    assert fault(world.store()["failure"]) == ("relay", False)


def test_a_phase_that_begins_meanwhile_gives_it_no_more_time(world: World) -> None:
    """A measurer that was connected blames the relay while another one is still connecting."""
    meas_id = world.to_phase("connecting")
    for name in ("m1", "m2"):
        share = world.meas.shares[name]
        world.say(ev.MeasurerSaid(name, wire.ConnectedToRelay(meas_id=meas_id, n_circs=share.n_circs)))
        if name == "m1":
            blame(world, name)
    assert world.meas.phase.value == "starting"
    world.sleep(1.1)
    assert fault(world.store()["failure"]) == ("relay", False)
