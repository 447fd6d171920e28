"""kill -9 of stock tor, the coordinator's own and relays', while a whole deployment measures."""

import re

import pytest

from support.tor_stack import (
    TorStack,
    failures_of,
    kill,
    measure,
    measuring,
    restart,
    started_stack,
    succeed,
    until_accepted,
    until_second,
    v3bw_rows,
)
from support.waiting import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180), pytest.mark.xdist_group("faults")]

_, STEADY, KILLED, REBORN = range(4)
"""What happens to which relay."""


running = pytest.fixture(scope="module")(started_stack)


def lost_and_found(log: str) -> list[float]:
    """The delays after each failed start of the directory's tor, seconds."""
    return [float(found) for found in re.findall(r"directory's tor.*trying again in (\d+) s", log)]


def test_the_directory_s_tor_is_killed_while_a_relay_is_measured(running: TorStack) -> None:
    known, first = running.measurable(), running.directory_tor()
    assert first is not None
    torrc = running.directory_folder / "torrc"
    right = torrc.read_text()
    since = len(running.log)
    try:
        with measuring(running, running.relays[STEADY]) as events:
            until_second(events)
            torrc.write_text(right + "NoSuchOption 1\n")  # so that it does not come up at once
            first.kill()
            done = list(events)[-1]
        assert done["outcome"] == "ok", done
        wait_for(lambda: len(lost_and_found(running.log[since:])) >= 2, "two failed starts")
        assert lost_and_found(running.log[since:])[:2] == [2, 4]  # the first new try comes after a second
        assert running.status()["relays_error"]
        assert running.measurable() == known
    finally:
        torrc.write_text(right)
    wait_for(lambda: running.status()["relays_error"] is None, "it reads from a tor again")
    second = running.directory_tor()
    assert second is not None
    assert second.pid != first.pid
    assert running.measurable() == known


def test_a_relay_is_killed_while_two_are_measured(running: TorStack) -> None:
    running.wait_self_tests()
    relay, other = running.relays[KILLED], running.relays[STEADY]
    result, _ = (until_accepted(running, one) for one in (relay, other))
    before = failures_of(running.publish(), relay)
    try:
        with measuring(running, relay) as events, measuring(running, other) as others:
            until_second(events)
            kill(relay.node)
            done, other_done = list(events)[-1], list(others)[-1]
        assert other_done["outcome"] == "ok", other_done
        assert done["outcome"] == "failed"
        assert done["failure"]["kind"] in ("peer", "network")
        assert "relay" in done["failure"]["reason"]
        stored = running.stored(done["meas_id"])
        assert stored is not None
        assert (stored["failure_kind"], stored["failure_reason"]) == (
            done["failure"]["kind"],
            done["failure"]["reason"],
        )
        assert stored["result_bytes"] is None
        text = running.publish()
        assert failures_of(text, relay) == before + 1
        assert failures_of(text, other) == 0
        assert int(v3bw_rows(text)[relay.fingerprint]["ff_result"]) == result["result_bytes"]
        absent = measure(running, relay)
        assert absent["failure"]["kind"] == "network", absent
        assert "no connection to the relay" in absent["failure"]["reason"]
    finally:
        restart(relay.node)
    again = succeed(running, relay)
    assert again["result_bytes"] == pytest.approx(result["result_bytes"], rel=0.2)


def test_a_relay_comes_back_as_another(running: TorStack) -> None:
    relay = running.relays[REBORN]
    with measuring(running, relay) as events:
        until_second(events)
        kill(relay.node)
        restart(relay.node, new_keys=True)
        assert list(events)[-1]["outcome"] == "failed"
    assert relay.node.fingerprint() != relay.fingerprint
    done = measure(running, relay)
    assert done["outcome"] == "failed"
    assert done["failure"]["kind"] == "peer", done
    assert "does not prove the expected identity" in done["failure"]["reason"]
    stored = running.stored(done["meas_id"])
    assert stored is not None
    assert stored["failure_reason"] == done["failure"]["reason"]
