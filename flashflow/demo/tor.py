"""The demo with stock tor: relays measured as they are, and the authorities' consensus takes the v3bw file's weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from flashflow.ctrl.client import CtrlClient
from flashflow.demo.plan import MEASURERS
from flashflow.demo.stage import Finding, Outcome, explained, measured, read_v3bw, staged
from flashflow.demo.team import WARMUP_S
from flashflow.demo.tor_deployment import TorDeployment, TorRelay
from flashflow.demo.tor_plan import UNLIMITED, TorPlan
from flashflow.demo.tor_report import (
    TorRow,
    is_carried,
    make_tor_row,
    tor_complaints,
    tor_notes,
    tor_table,
    v3bw_weights,
)
from flashflow.model.errors import LocalError
from flashflow.model.ids import Fingerprint
from flashflow.testnet.tornet import VOTING_INTERVAL_S, TorNetwork
from flashflow.testnet.tornet_bw import median_bw_read_mbps
from flashflow.testnet.tornet_documents import BANDWIDTH_PATH, ConsensusEntry, fetch

CONSENSUS_S = 6.0 * VOTING_INTERVAL_S
"""Longest wait for the consensus after the v3bw file, which is read for the next vote but one at the latest; on a busy
machine authorities miss a vote now and then."""

Results = Mapping[Fingerprint, Mapping[str, Any]]
"""The coordinator's result object of each relay."""


def run_tor_demo(plan: TorPlan, out: Path, console: Console) -> Outcome:
    """Run the demo, show it on `console`, write OUT/demo.json and OUT/v3bw.

    Raises MissingTorError, and LocalError if it cannot.
    """

    def measure(work: Path) -> Finding:
        with TorDeployment(plan, work) as deployment, explained(deployment, console):
            return _measure_all(deployment, console)

    return staged(plan, out, console, measure)


def _measure_all(deployment: TorDeployment, console: Console) -> Finding:
    with console.status("starting a network of stock tor, coordinator and measurers"):
        deployment.start()
    console.out(_summary(deployment), highlight=False)
    with deployment.ctrl() as client:
        results = {
            relay.fingerprint: _measure(deployment, client, relay, console) for relay in deployment.relays
        }
        v3bw = read_v3bw(client)
    with console.status("waiting for the consensus that carries the v3bw file"):
        entries = _consensus(deployment.network, v3bw)
    rows = _rows(deployment, results, v3bw, entries)
    found = [line for row in rows for line in tor_complaints(row)]
    return Finding(rows, v3bw, tor_table(rows), tor_notes(rows), [*found, *_not_served(deployment)])


def _measure(
    deployment: TorDeployment, client: CtrlClient, relay: TorRelay, console: Console
) -> dict[str, Any]:
    place = f"{deployment.relays.index(relay) + 1}/{len(deployment.relays)}"
    return measured(client, console, relay, place)


def _consensus(network: TorNetwork, v3bw: bytes) -> dict[Fingerprint, ConsensusEntry]:
    """The consensus that has the file's weights, or the present one if none has them in time."""
    weights = v3bw_weights(v3bw.decode())
    try:
        return network.wait_consensus(lambda entries: is_carried(weights, entries), CONSENSUS_S)
    except LocalError:
        network.check_alive()
        return network.consensus(network.authorities[0])


def _rows(
    deployment: TorDeployment,
    results: Results,
    v3bw: bytes,
    entries: Mapping[Fingerprint, ConsensusEntry],
) -> list[TorRow]:
    weights = v3bw_weights(v3bw.decode())
    return [_row(relay, results[relay.fingerprint], weights, entries) for relay in deployment.relays]


def _row(
    relay: TorRelay,
    result: Mapping[str, Any],
    weights: Mapping[Fingerprint, int],
    entries: Mapping[Fingerprint, ConsensusEntry],
) -> TorRow:
    counted = median_bw_read_mbps(relay.bw, result["active_utc_s"], result["duration_s"])
    fingerprint = relay.fingerprint
    return make_tor_row(
        result,
        relay.rate_mbps,
        counted,
        v3bw_weight=weights.get(fingerprint, 0),
        entry=entries.get(fingerprint),
        defences_acted=sum(relay.node.defences().values()),
    )


def _not_served(deployment: TorDeployment) -> list[str]:
    """Each authority serves the file that it voted by: it must be ours, byte for byte.

    Which one of those that the coordinator published it votes by is up to it: the first one that is due comes meanwhile.
    """
    published = [path.read_bytes() for path in deployment.v3bw.parent.glob(f"{deployment.v3bw.name}.*")]
    return [
        f"{node.name} serves another v3bw file than the coordinator's"
        for node in deployment.network.authorities
        if fetch(node.directory, BANDWIDTH_PATH) not in published
    ]


def _summary(deployment: TorDeployment) -> str:
    plan = deployment.plan
    rates = ", ".join(UNLIMITED if rate is None else f"{rate:g}" for rate in plan.rates_mbps)
    return (
        f"{len(deployment.relays)} relays of stock tor ({rates} Mbit/s) and {len(deployment.network.authorities)}"
        f" authorities run on {plan.network_host}, a coordinator and {len(MEASURERS)} measurers of"
        f" {plan.measurer_mbps} Mbit/s on {plan.host}; each measurement counts {plan.duration_s} s after {WARMUP_S} s"
        " of warm-up"
    )
