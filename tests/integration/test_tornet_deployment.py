"""A whole deployment beside a private network of stock tor: its results, its file, and what changes under its hands."""

import json
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from flashflow.ctrl.protocol import CtrlRefusedError
from flashflow.demo.tor_deployment import TorRelay
from flashflow.demo.tor_report import is_carried
from flashflow.model.ids import Fingerprint
from flashflow.testnet.tornet import VOTING_INTERVAL_S
from flashflow.testnet.tornet_bw import counts_path
from flashflow.testnet.tornet_documents import BANDWIDTH_PATH, CONSENSUS_PATH, fetch
from support.tor_stack import (
    ADVERTISED_MBPS,
    NO_SELF_TEST,
    PARAMS_PER_ADDRESS,
    RATES_MBPS,
    SELF_TEST,
    Event,
    TorStack,
    allow_all,
    complaints,
    counted_mbps,
    measure,
    measuring,
    reject,
    started_stack,
    succeed,
    until_accepted,
    v3bw_rows,
)
from support.waiting import wait_for

pytestmark = [pytest.mark.net, pytest.mark.timeout(180)]

MAX_ERROR = 0.05
"""A median of four seconds may be so far off what the relay's own tor counted; `make accuracy` has the finer bounds."""
CONSENSUS_S = 6.0 * VOTING_INTERVAL_S
CAPPED, STEADY, _, DROPPED = range(4)
"""What happens to which relay."""


running = pytest.fixture(scope="module")(started_stack)


@pytest.fixture(scope="module")
def results(running: TorStack) -> dict[int, Event]:
    """A first result of the relays that the tests below compare, and of a third one."""
    running.wait_self_tests()
    return {number: succeed(running, running.relays[number]) for number in range(DROPPED)}


def agrees(result: Event, counted: float) -> bool:
    """Whether a result is what the relay's own tor counted."""
    return abs(result["result_bytes"] / 125_000 / counted - 1) <= MAX_ERROR


def test_the_live_network_s_defences_take_no_notice(running: TorStack, results: dict[int, Event]) -> None:
    text = (fetch(running.network.authorities[0].directory, CONSENSUS_PATH) or b"").decode()
    params = next(line for line in text.splitlines() if line.startswith("params ")).split()[1:]
    assert set(PARAMS_PER_ADDRESS.split()) <= set(params)
    for number, result in results.items():
        relay = running.relays[number]
        assert agrees(result, counted_mbps(relay.bw, result)), relay.nickname
        assert 0.6 * RATES_MBPS[number] < result["result_bytes"] / 125_000 < RATES_MBPS[number]
        assert set(relay.node.defences().values()) == {0}
    assert all(set(node.defences().values()) == {0} for node in running.network.authorities)


@pytest.mark.parametrize("fault", [0.8, 1.2])
def test_a_count_that_is_a_fifth_off_is_found_out(
    running: TorStack, results: dict[int, Event], tmp_path: Path, fault: float
) -> None:
    """The comparison above would see it."""
    relay, planted = running.relays[STEADY], tmp_path / "bw"
    for source, copy in ((relay.bw, planted), (counts_path(relay.bw), counts_path(planted))):
        rows = [json.loads(line) for line in source.read_text().splitlines()]
        wrong = [{**row, "read_bytes": int(row["read_bytes"] * fault)} for row in rows]
        copy.write_text("".join(json.dumps(row) + "\n" for row in wrong))
    assert not agrees(results[STEADY], counted_mbps(planted, results[STEADY]))


def keeps_to(text: str, relay: Fingerprint, advertised_mbps: float) -> bool:
    """Whether a v3bw file has just so much for a relay, in kB/s."""
    return int(v3bw_rows(text)[relay]["bw"]) == int(advertised_mbps * 125)


def test_the_file_keeps_to_what_a_relay_advertises_and_the_store_keeps_all(
    running: TorStack, results: dict[int, Event]
) -> None:
    relay, result = running.relays[CAPPED], results[CAPPED]
    text = running.publish()
    assert keeps_to(text, relay.fingerprint, ADVERTISED_MBPS)
    assert result["result_bytes"] > 1.5 * ADVERTISED_MBPS * 125_000
    assert agrees(result, counted_mbps(relay.bw, result))
    stored = running.stored(result["meas_id"])
    assert stored is not None
    assert (stored["result_bytes"], stored["failure_kind"]) == (result["result_bytes"], None)
    assert stored["bandwidth_avg_bytes"] == ADVERTISED_MBPS * 125_000
    with running.ctrl() as client:
        shown = client.request("results", relay.fingerprint)["results"]
    assert result["result_bytes"] in [row["result_bytes"] for row in shown]
    # what a relay without such a limit has is its result, and a fifth more than the limit is found out
    steady = running.relays[STEADY].fingerprint
    assert int(v3bw_rows(text)[steady]["bw"]) == results[STEADY]["result_bytes"] // 1000
    more = text.replace(f"bw={ADVERTISED_MBPS * 125:.0f} ", f"bw={ADVERTISED_MBPS * 150:.0f} ")
    assert not keeps_to(more, relay.fingerprint, ADVERTISED_MBPS)


def test_tor_takes_the_file_serves_it_and_votes_by_it(running: TorStack, results: dict[int, Event]) -> None:
    authorities = running.network.authorities
    assert all(complaints(node) for node in authorities), "of the file that was not there yet"
    running.publish()
    logged = {node: len(node.log_text()) for node in authorities}

    def served() -> bool:
        return {fetch(node.directory, BANDWIDTH_PATH) for node in authorities} == {running.v3bw.read_bytes()}

    wait_for(served, "every authority serves the coordinator's file", CONSENSUS_S)
    weights = {fp: int(row["bw"]) for fp, row in v3bw_rows(running.v3bw.read_text()).items()}
    assert weights.keys() >= {running.relays[number].fingerprint for number in results}
    entries = running.network.wait_consensus(lambda found: is_carried(weights, found), CONSENSUS_S)
    assert [line for node in authorities for line in complaints(node, logged[node])] == []
    fingerprint = running.relays[STEADY].fingerprint
    assert not is_carried({fingerprint: weights[fingerprint] * 6 // 5}, entries)


# --- what changes under its hands ---


@pytest.mark.usefixtures("results")
def test_a_relay_gets_another_rate_between_two_measurements(running: TorStack) -> None:
    relay = running.relays[STEADY]
    before = succeed(running, relay)
    half = int(RATES_MBPS[STEADY] * 125_000) // 2
    relay.node.ask(f"SETCONF RelayBandwidthRate={half} RelayBandwidthBurst={half}")
    after = succeed(running, relay)
    for result in (before, after):
        assert agrees(result, counted_mbps(relay.bw, result))
    assert after["result_bytes"] / before["result_bytes"] == pytest.approx(0.5, rel=0.1)


def valid_after(running: TorStack) -> str:
    """Of the consensus that the coordinator's own tor has."""
    text = (running.directory_folder / "cached-consensus").read_text("ascii", "replace")
    found = re.search(r"^valid-after (.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def test_a_new_consensus_while_a_relay_is_measured(running: TorStack) -> None:
    """One comes every ten seconds: some measurement has it in its midst, and every one succeeds."""
    for _ in range(8):
        before, since = valid_after(running), len(running.log)
        succeed(running, running.relays[STEADY])
        if valid_after(running) != before and "relays known" in running.log[since:]:
            return
    pytest.fail("no new consensus came during eight measurements")


def failed_when_rejected(running: TorStack, relay: TorRelay, other: TorRelay) -> list[Event]:
    """Has the relay left out of the consensus while it is measured, and others wait for it: the failed ones."""
    reject(running.network, relay)
    with ExitStack() as stack:
        waiting = [stack.enter_context(measuring(running, relay)) for _ in range(8)]
        succeed(running, other)
        ended = [list(events)[-1] for events in waiting]
    return [event for event in ended if event["outcome"] == "failed"]


def test_a_relay_leaves_the_consensus_while_it_is_measured_and_waits(running: TorStack) -> None:
    relay, other = running.relays[DROPPED], running.relays[STEADY]
    for one in (relay, other):
        until_accepted(running, one)
    failed = failed_when_rejected(running, relay, other)
    if failed[0]["failure"]["kind"] == "local":  # the news came while the result of one was being stored
        allow_all(running.network)
        wait_for(lambda: relay.fingerprint in running.measurable(), "it is in the consensus again")
        failed = failed_when_rejected(running, relay, other)
    hit, *dropped = (event["failure"] for event in failed)
    assert (hit["kind"], hit["reason"]) == ("network", "it left the consensus")
    assert dropped
    for failure in dropped:
        assert failure["kind"] == "local"
        assert "not in the consensus any more" in failure["reason"]
    stored = running.stored(failed[0]["meas_id"])
    assert stored is not None
    assert (stored["failure_kind"], stored["failure_reason"]) == (hit["kind"], hit["reason"])
    assert relay.fingerprint not in running.measurable()
    succeed(running, other)
    with pytest.raises(CtrlRefusedError, match="no such relay"):
        measure(running, relay)


def test_no_authority_has_sent_anything_through_a_relay_that_is_measured(running: TorStack) -> None:
    authorities = (
        running.network.authorities
    )  # they think of it once a minute, until their first circuit is built
    wait_for(lambda: all(NO_SELF_TEST in node.log_text() for node in authorities), NO_SELF_TEST, 130)
    assert not any(SELF_TEST in node.log_text() for node in authorities)
