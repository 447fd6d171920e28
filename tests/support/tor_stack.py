"""A whole deployment beside a private network of stock tor, what tests do to its tors, and what each counted and kept."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from flashflow.demo.tor_deployment import TorDeployment, TorRelay
from flashflow.demo.tor_plan import TorPlan
from flashflow.model.ids import Fingerprint
from flashflow.testnet.counts import median_read_mbps
from flashflow.testnet.tornet import LIVE_PARAMS, TorNetwork, TorRelaySpec
from flashflow.testnet.tornet_bw import CELL_SHARE, counts_path, read_bw
from flashflow.testnet.tornet_node import TorNode, stop_nodes
from support.real_tor import need_tor
from support.tor_directory import tors_of
from support.waiting import wait_for

Event = dict[str, Any]

RATES_MBPS = (40.0, 30.0, 40.0, 20.0)
ADVERTISED_MBPS = 8.0
"""MaxAdvertisedBandwidth of the first relay, well below what it can do."""
DURATION_S = 4
SELF_TEST, NO_SELF_TEST = "Performing bandwidth self-test", "Can't perform self-tests"
"""A relay's tor that is 20 s old sends half a megabyte through others and itself: of four seconds' traffic that is too
much. An authority's tor would do it after a minute, and is kept from it."""
QUIET_BYTES = 50_000
PARAMS_PER_ADDRESS = LIVE_PARAMS
"""As they are, though both measurers are at one address: their circuits leave room for that."""


class TorStack(TorDeployment):
    """Four relays of stock tor, the first of which advertises less than it can do."""

    def __init__(self, folder: Path) -> None:
        super().__init__(TorPlan(RATES_MBPS, DURATION_S, consensus_params=PARAMS_PER_ADDRESS), folder)

    def relay_specs(self) -> list[TorRelaySpec]:
        """As in the plan, but for what the first one advertises."""
        lines = self.plan.relay_lines
        return [
            TorRelaySpec(f"relay{n}", rate, max_advertised_mbps=advertised, torrc_lines=lines)
            for n, (rate, advertised) in enumerate(
                zip(RATES_MBPS, [ADVERTISED_MBPS, *[None] * 3], strict=True), start=1
            )
        ]

    def wait_self_tests(self) -> None:
        """Until every relay's tor has tested itself, and the traffic of that is over."""
        wait_for(lambda: all(SELF_TEST in relay.node.log_text() for relay in self.relays), SELF_TEST)
        wait_for(lambda: all(is_quiet(relay) for relay in self.relays), "the self-tests' traffic is over")

    @property
    def log(self) -> str:
        """What the coordinator logged so far."""
        return (self.folder / "logs" / "coordinator.log").read_text("utf-8", "replace")

    @property
    def directory_folder(self) -> Path:
        """The data directory of the coordinator's own tor."""
        return self.folder / "coord" / "directory"

    def status(self) -> dict[str, Any]:
        """What `flashflow ctrl status` is made of."""
        with self.ctrl() as client:
            return client.request("status")

    def measurable(self) -> set[Fingerprint]:
        """Relays that the coordinator knows with their keys."""
        with self.ctrl() as client:
            return {row["fingerprint"] for row in client.request("relays")["relays"] if row["measurable"]}

    def directory_tor(self) -> psutil.Process | None:
        """The tor that the coordinator runs, while it does."""
        return next(iter(tors_of(self.child("coordinator").pid)), None)

    def stored(self, meas_id: int) -> dict[str, Any] | None:
        """A measurement's row in the results database, read by SQLite itself."""
        path = self.folder / "coord" / "results" / "results.sqlite"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            row = database.execute("SELECT * FROM measurement WHERE meas_id = ?", (meas_id,)).fetchone()
        return dict(row) if row else None

    def publish(self) -> str:
        """Have the coordinator write a v3bw file; its text."""
        with self.ctrl() as client:
            return Path(client.request("v3bw")["path"]).read_text()


def started_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorStack]:
    """What a fixture of one gives."""
    need_tor()
    with TorStack(tmp_path_factory.mktemp("t")) as stack:
        stack.start()
        yield stack


def is_quiet(relay: TorRelay) -> bool:
    """Whether it has read next to nothing in the last two seconds."""
    return all(second.read_bytes < QUIET_BYTES for second in read_bw(relay.bw)[-2:])


@contextmanager
def measuring(running: TorStack, relay: TorRelay) -> Iterator[Iterator[Event]]:
    """A measurement that was asked for; gives its events."""
    with running.ctrl() as client:
        client.request("measure", relay.fingerprint, "wait")
        yield client.events()


def until_second(events: Iterator[Event]) -> None:
    """Takes events until traffic flows and is counted."""
    for event in events:
        assert event["event"] != "done", event
        if event["event"] == "second":
            return


def measure(running: TorStack, relay: TorRelay) -> Event:
    """Measure a relay: the last event, `done`."""
    with measuring(running, relay) as events:
        return list(events)[-1]


def succeed(running: TorStack, relay: TorRelay) -> Event:
    """Measure a relay: its result, which is a success."""
    done = measure(running, relay)
    assert done["outcome"] == "ok", done
    return done


def until_accepted(running: TorStack, relay: TorRelay) -> Event:
    """Measure it until a result is accepted: from then on a part of the team is enough, and it waits for no other."""
    return next(done for _ in range(4) if (done := succeed(running, relay))["accepted"])


def counted_mbps(record: Path, result: Event) -> float:
    """Median of what the relay's own tor read in the measurement's seconds, as cell bytes, by its counter."""
    return median_read_mbps(counts_path(record), result["active_utc_s"], result["duration_s"]) * CELL_SHARE


def v3bw_rows(text: str) -> dict[Fingerprint, dict[str, str]]:
    """The relay lines of a v3bw file, by relay."""
    _, _, lines = text.partition("\n=====\n")
    rows = [dict(word.split("=", 1) for word in line.split()) for line in lines.splitlines()]
    return {Fingerprint(row["node_id"].removeprefix("$")): row for row in rows}


def failures_of(text: str, relay: TorRelay) -> int:
    """How often a relay's measurement failed, by a v3bw file."""
    return int(v3bw_rows(text)[relay.fingerprint].get("relay_recent_measurement_failure_count", "0"))


def kill(node: TorNode) -> None:
    """kill -9."""
    stop_nodes([node], 0.0)


def restart(node: TorNode, *, new_keys: bool = False) -> None:
    """Run a tor that was killed again: it takes connections when this returns."""
    assert not node.alive
    if new_keys:
        node.forget_keys()
    node.start()
    node.control()


def reject(network: TorNetwork, relay: TorRelay) -> None:
    """Have every authority leave a relay out of its votes."""
    _rule(network, f"!reject {relay.fingerprint}\n")


def allow_all(network: TorNetwork) -> None:
    """No more of that."""
    _rule(network, "")


def _rule(network: TorNetwork, text: str) -> None:
    for node in network.authorities:
        (node.data / "approved-routers").write_text(text)
        node.reload()


def complaints(node: TorNode, since: int = 0) -> list[str]:
    """What an authority has logged about the bandwidth file, from that byte of its log on.

    Not of weights: "Too much Middle bandwidth on the network" is what tor says of any network as small.
    """
    lines = [line for line in node.log_text()[since:].splitlines() if "[notice]" not in line]
    return [line for line in lines if "easured" in line or ("andwidth" in line and "ile" in line)]
