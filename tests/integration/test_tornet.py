"""Private networks of stock tor: what they promise to tests and to the demo."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import cycle
from pathlib import Path
from statistics import median

import psutil
import pytest

from coordinator.outputs.v3bw_file import publish
from flashflow.demo.child import Child, stop_all
from flashflow.demo.tor_report import is_carried
from flashflow.model.errors import LocalError
from flashflow.model.ids import Fingerprint
from flashflow.model.units import BYTES_PER_MBIT
from flashflow.orlink.cells import Cell, Command, encode_cell
from flashflow.shell.parent import child_environment
from flashflow.testnet.tornet import LIVE_PARAMS, TorNetwork, TorRelaySpec
from flashflow.testnet.tornet_bw import RECORD_BYTES, median_bw_read_mbps, read_bw, recorder_command
from flashflow.testnet.tornet_documents import BANDWIDTH_PATH, CONSENSUS_PATH, fetch
from flashflow.testnet.tornet_node import TorNode
from support.or_client import OrClient, Target
from support.processes import left_of
from support.real_tor import need_tor
from support.tor_stack import complaints

net = pytest.mark.net

ADDRESSES = ["127.0.0.1", "::1"]
RELAYS = [TorRelaySpec("slow", 8, max_advertised_mbps=6), TorRelaySpec("mid", 40, 80), TorRelaySpec("fast")]
DEFENDED_HOST = "127.0.0.2"
"""Relays here, clients at 127.0.0.1: a relay's defences spare every address of a known relay."""
CELLS = 510
"""16 full TLS records of 16 KiB hold just 510 cells."""


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, TorNetwork]]:
    """One network for each host, started together; the one on DEFENDED_HOST has the live network's parameters."""
    need_tor()
    with ExitStack() as stack:
        made = {}
        for host in [*ADDRESSES, DEFENDED_HOST]:
            folder = tmp_path_factory.mktemp("tor")
            options = {"consensus_params": LIVE_PARAMS} if host == DEFENDED_HOST else {}
            relays = RELAYS[-1:] if host == DEFENDED_HOST else RELAYS
            network = TorNetwork(folder, relays, host=host, bandwidths_file=folder / "v3bw", **options)
            made[host] = stack.enter_context(network)
        for network in made.values():
            network.launch()
        for network in made.values():
            network.wait_ready()
        yield made


@net
@pytest.mark.parametrize("host", ADDRESSES)
def test_relays_have_their_limits_and_addresses(networks: dict[str, TorNetwork], host: str) -> None:
    network = networks[host]
    directory = network.authorities[0].directory
    said = {}
    for node in network.relays:
        text = (fetch(directory, f"/tor/server/fp/{node.fingerprint()}") or b"").decode()
        said[node.name] = next(line for line in text.splitlines() if line.startswith("bandwidth ")).split()[
            1:3
        ]
        assert f"router {node.name} 127.0.0.1 {node.or_address.port} " in text
        assert ("or-address [::1]:" in text) == (host == "::1")
    unlimited = str(1 << 30)
    assert said == {
        "slow": ["750000", "1000000"],
        "mid": ["5000000", "10000000"],
        "fast": [unlimited, unlimited],
    }


def publish_weights(network: TorNetwork) -> tuple[dict[Fingerprint, int], str]:
    """A v3bw file for the authorities: its weights and its text."""
    weights = {node.fingerprint(): 1234 + 1000 * n for n, node in enumerate(network.relays)}
    rows = "".join(f"node_id=${fp} bw={weight}\n" for fp, weight in weights.items())
    text = f"{int(time.time())}\nversion=1.9.0\nsoftware=flashflow\n=====\n{rows}"
    publish(text, network.authorities[0].folder.parent / "v3bw", time.time())
    return weights, text


@net
def test_the_consensus_takes_its_weights_from_the_v3bw_file(networks: dict[str, TorNetwork]) -> None:
    both = [networks[host] for host in ADDRESSES]
    published = [publish_weights(network) for network in both]
    logged = {node: len(node.log_text()) for network in both for node in network.authorities}
    for network, (weights, text) in zip(both, published, strict=True):
        network.wait_consensus(lambda found, weights=weights: is_carried(weights, found), 80)
        for node in network.authorities:
            assert fetch(node.directory, BANDWIDTH_PATH) == text.encode()
            assert not complaints(node, logged[node])


def pump(node: TorNode, host: str, mbps: float, seconds: float) -> None:
    """Sends PADDING cells, which tor reads and ignores: evenly paced, in full TLS records, one at a time."""
    address = next(address for address in node.or_addresses if (":" in address.host) == (":" in host))
    cells = encode_cell(Cell(0, Command.PADDING, b"")) * CELLS
    records = cycle([cells[at : at + RECORD_BYTES] for at in range(0, len(cells), RECORD_BYTES)])
    with closing(OrClient(Target(*address, bytes.fromhex(node.fingerprint()), None, b""))) as client:
        begin_s, sent_bytes = time.monotonic(), 0
        while time.monotonic() < begin_s + seconds:
            record = next(records)
            client._socket.sendall(record)
            sent_bytes += len(record)
            time.sleep(max(0.0, begin_s + sent_bytes / (mbps * BYTES_PER_MBIT) - time.monotonic()))


@net
@pytest.mark.parametrize("host", ADDRESSES)
def test_bw_events_are_what_was_sent(networks: dict[str, TorNetwork], host: str, tmp_path: Path) -> None:
    relays = networks[host].relays
    records = {tmp_path / node.name: node.control() for node in relays}
    recorder = Child("recorder", recorder_command(records), tmp_path)
    try:
        recorder.wait_ready()
        time.sleep(1)  # the first event may cover less than a second
        begin_utc_s = time.time()
        pump(relays[-1], host, 80, 8)
        time.sleep(1.1)  # the last event
    finally:
        stop_all([recorder], 5)
    assert recorder.returncode == 0
    found = median_bw_read_mbps(tmp_path / "fast", begin_utc_s, 8)
    assert found.cell_mbps == pytest.approx(80, rel=0.01)
    assert 0 < found.raw_mbps - found.cell_mbps < 0.002 * found.raw_mbps
    assert found.counter_mbps == pytest.approx(80, rel=0.01)
    idle = read_bw(tmp_path / "slow")
    assert len(idle) >= 8
    for times_s in ([second.utc_s for second in idle], [second.monotonic_s for second in idle]):
        assert (times_s[-1] - times_s[0]) / (len(idle) - 1) == pytest.approx(1, abs=0.05)
        assert len({time_s % 1 for time_s in times_s}) > 1  # the very time, not a second's number
    assert median(second.read_bytes for second in idle) < 100_000


@net
def test_the_live_network_s_defences_are_on(networks: dict[str, TorNetwork]) -> None:
    """More connections at once than they let one address have: refused, and counted in tor's heartbeat."""
    network = networks[DEFENDED_HOST]
    (node,) = network.relays
    text = (fetch(network.authorities[0].directory, CONSENSUS_PATH) or b"").decode()
    params = next(line for line in text.splitlines() if line.startswith("params ")).split()[1:]
    assert set(LIVE_PARAMS.split()) <= set(params)
    assert set(node.defences().values()) == {0}
    target = Target(*node.or_address, bytes.fromhex(node.fingerprint()), None, b"")
    with ExitStack() as stack:
        refused = 0
        for _ in range(60):
            try:
                stack.enter_context(closing(OrClient(target)))
            except (OSError, AssertionError):
                refused += 1
        assert refused >= 60 - 51
    acted = node.defences()
    assert acted["same address concurrent connections rejected"] + acted["connections rejected"] >= refused
    assert network.authorities[0].defences()["connections rejected"] == 0


@net
def test_a_tor_that_cannot_start_is_named_with_its_reason(tmp_path: Path) -> None:
    need_tor()
    broken = TorRelaySpec("broken", torrc_lines=("NoSuchOption 1",))
    with (
        TorNetwork(tmp_path, [broken], authorities=1) as network,
        pytest.raises(
            LocalError, match=r"(?s)^broken: tor ended with status 1: .*Unknown option 'NoSuchOption'"
        ),
    ):
        network.start()
    assert not any(node.alive for node in network.nodes)


PARENT = """
import sys, time
from pathlib import Path
from flashflow.testnet.tornet import TorNetwork, TorRelaySpec
network = TorNetwork(Path(sys.argv[1]), [TorRelaySpec("fast")], authorities=1)
network.launch()
print(*(node.pid for node in network.nodes if node.control()), flush=True)
time.sleep(60)
"""


def test_smoke_no_tor_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    need_tor()
    argv = [sys.executable, "-c", PARENT, str(tmp_path / "net")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=child_environment()) as parent:
        assert parent.stdout is not None
        tors = [psutil.Process(int(word)) for word in parent.stdout.readline().split()]
        assert [tor.name() for tor in tors] == ["tor", "tor"]
        parent.kill()
    assert not left_of(tors, 2)
