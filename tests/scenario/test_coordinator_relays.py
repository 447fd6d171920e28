"""The consensus or the filter changes while measurements wait and run."""

from coordinator.core import events as ev
from coordinator.core.measurement import RUNNING
from flashflow.directory.filter import RelayFilter
from flashflow.model.relay import RelayInfo
from support.coordinator_world import World, relay


def load(world: World, *relays: RelayInfo, filter_text: str = "allow *") -> None:
    world.say(ev.RelaysLoaded(relays, RelayFilter.parse(filter_text, "filter")))


def with_one_that_waits() -> World:
    """relay1 is measured by the whole team, so relay2 waits; controller 1 watches both."""
    world = World()
    world.start()
    world.to_phase("params", "relay1")
    assert world.ctrl("measure relay2 wait")["kind"] == "OK"
    assert world.ctrl("status")["queued"] == 1
    return world


def test_a_relay_that_leaves_the_consensus_is_not_waited_for() -> None:
    world = with_one_that_waits()
    load(world, relay(1))
    (done,) = world.events_to(1, "done")
    assert done["fingerprint"] == relay(2).fingerprint
    assert done["failure"]["reason"] == f"{relay(2).fingerprint} is not in the consensus any more"
    assert world.ctrl("status")["queued"] == 0
    assert world.meas.relay.nickname == "relay1", "what runs goes on"


def test_a_relay_that_the_filter_denies_now_is_not_waited_for() -> None:
    world = with_one_that_waits()
    load(world, relay(1), relay(2), filter_text="deny nick:relay2\nallow *")
    (done,) = world.events_to(1, "done")
    assert done["failure"]["reason"] == f"the relay filter does not allow relay2 {relay(2).fingerprint}"


def test_a_relay_without_keys_is_not_waited_for() -> None:
    world = with_one_that_waits()
    load(world, relay(1), relay(2, ntor_key=None))
    (done,) = world.events_to(1, "done")
    assert "no descriptor with the keys of relay2" in done["failure"]["reason"]


def test_a_measurement_ends_when_its_relay_leaves_the_consensus_and_the_next_begins() -> None:
    world = with_one_that_waits()
    load(world, relay(2))
    done = world.store()
    assert (done["failure"]["kind"], done["failure"]["reason"]) == ("network", "it left the consensus")
    world.sleep(1.0)
    (begun,) = (meas for meas in world.core.state.measurements.values() if meas.phase in RUNNING)
    assert begun.relay.nickname == "relay2"


def test_a_measurement_ends_when_its_relay_is_denied() -> None:
    world = with_one_that_waits()
    load(world, relay(1), relay(2), filter_text=f"deny {relay(1).fingerprint}\nallow *\n")
    done = world.store()
    assert done["failure"]["kind"] == "local"
    assert "the relay filter does not allow relay1" in done["failure"]["reason"]


def test_what_was_known_stays_when_reading_fails() -> None:
    world = with_one_that_waits()
    world.say(ev.RelaysFailed("the directory's tor ended with status 1"))
    status = world.ctrl("status")
    assert (status["relays"], status["queued"]) == (2, 1)
    assert status["relays_error"] == "the directory's tor ended with status 1"
    load(world, relay(1), relay(2))
    assert world.ctrl("status")["relays_error"] is None


def test_rates_and_modes_of_the_rule_that_decides() -> None:
    world = World()
    family = (relay(1).fingerprint, relay(2).fingerprint)
    relays = (relay(1, family=family), relay(2, family=family), relay(3))
    text = f"allow family:{relay(1).fingerprint} rate=8\nallow net:127.0.0.0/8 rate=80\n"
    world.start()
    load(world, *relays, filter_text=text)
    assert [row["nickname"] for row in world.ctrl("relays")["relays"]] == ["relay1", "relay2", "relay3"]
    world.ctrl("measure relay2")
    assert sum(share.allocated_bytes for share in world.meas.shares.values()) == 1_000_000
