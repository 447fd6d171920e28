"""Several coordinators that share a secret never measure a relay in the same slot, whatever happens to each of them."""

from dataclasses import replace

import pytest

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.params import Params
from coordinator.core.planning import slot_of
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint
from flashflow.model.network import ConsensusHeader
from flashflow.torctl.client import TorCameUp
from support.coordinator_world import MIDNIGHT, World, relay

PARAMS = Params(duration_s=5, warmup_s=2, slot_s=30, period_s=900, strategy="uniform")
HEADER = ConsensusHeader(shared_random_current=b"\x05" * 32, valid_after_utc_s=MIDNIGHT - 3600.0)
COUNT = 40
LOOP = "".join(f"allow {relay(n).fingerprint} mode=loop\n" for n in range(1, COUNT + 2))

Begun = set[tuple[Fingerprint, int]]


def started(number: int, deployments: int, header: ConsensusHeader) -> World:
    """Deployment `number`: its draws and its team are its own, the secret is shared."""
    params = replace(PARAMS, deployment=number, deployments=deployments)
    world = World(params, tuple(relay(n) for n in range(1, COUNT + 1)))
    world.say(ev.Started(bytes([number + 1]) * 32, (), (), None, secret=b"\x08" * 32))
    world.load(LOOP, header)
    world.say(TorCameUp())
    for name in ("m1", "m2")[: 1 + number]:
        world.say(ev.MeasurerJoined(name, 62_500_000, "127.0.0.1"))
    return world


def run_period(world: World, header: ConsensusHeader) -> Begun:
    """Half of the measurements fail and are tried again, a relay joins, the team is away for three slots."""
    begun: Begun = set()
    for number in range(PARAMS.period_s // PARAMS.slot_s):
        world.to_next_slot()
        in_work = list(world.core.state.measurements.values())
        begun |= {(meas.relay.fingerprint, slot_of(world.core.state, meas.begun.utc_s)) for meas in in_work}
        world.fail_all(ErrorKind.NETWORK if number % 2 else ErrorKind.PEER)
        if number == 5:
            world.relays = (*world.relays, relay(COUNT + 1))
            world.load(LOOP, header)
            world.say(ev.RelayOffered(1, relay(COUNT + 1).fingerprint))
        if number == 8:
            world.say(ev.MeasurerGone("m1", "no heartbeat"))
        if number == 11:
            world.say(ev.MeasurerJoined("m1", 50_000_000, "127.0.0.1"))
    return begun


@pytest.mark.parametrize("header", [HEADER, ConsensusHeader()], ids=["shared random value", "none"])
def test_deployments_that_share_a_secret_never_meet(header: ConsensusHeader) -> None:
    ours, others = (run_period(started(number, 2, header), header) for number in range(2))
    assert not ours & others
    for begun in (ours, others):
        relays = [fingerprint for fingerprint, _ in begun]
        assert len(set(relays)) > COUNT / 2
        assert len(relays) > len(set(relays)), "some were measured twice"
    assert relay(COUNT + 1).fingerprint in {fingerprint for fingerprint, _ in ours | others}


def test_without_the_rule_they_would_meet() -> None:
    ours, others = (run_period(started(0, 1, header), header) for header in (HEADER, HEADER))
    assert ours & others


def test_that_they_go_by_the_secret_alone_is_told() -> None:
    world = started(1, 2, ConsensusHeader())
    world.sleep(31.0)
    told = [effect.text for effect in world.of(do.Log)]
    assert "the consensus has no shared random value: the schedule goes by the secret alone" in told
    assert world.of(do.SaveProgress)[-1].progress.stand_in == ""
