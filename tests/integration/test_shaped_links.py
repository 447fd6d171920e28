"""Truth that tor does not keep: a whole deployment measures a relay at the end of a link that the kernel shapes.

What the result is compared with is counted by the relay's interface, and read by a process of its own (docs/links.md).
"""

import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from flashflow.demo.child import Child, stop_all
from flashflow.demo.deployment import Deployment
from flashflow.demo.plan import Plan
from flashflow.demo.report import MAX_COUNT_ERROR_PCT, percent_off
from flashflow.demo.stage import measured
from flashflow.demo.tor_deployment import TorDeployment
from flashflow.demo.tor_plan import TorPlan
from flashflow.model.errors import LocalError
from flashflow.model.units import to_mbps
from flashflow.testnet.linkcount import HEADER_BYTES, LinkFigure, read_link
from flashflow.testnet.links import ShapedLink
from flashflow.testnet.tornet_node import wait_for
from support.netns import need_netns
from support.processes import left_of
from support.real_tor import need_tor

RATES_MBPS = (200.0, 50.0, 10.0)
"""Falling: a relay is measured with a multiple of what it was seen to do last."""
UNREACHED_MBPS = 1000.0
"""The limit of the reference relays themselves."""
DELAY_S = 0.05
SECONDS = 6
FAR_SECONDS = {"echo": 12, "loop": 16}
"""Seconds differ more there, above all in loop mode, where TCP controls four ways in a row; production has 30."""
LEAST_FULL = 0.97
"""A link that carried less of its rate than this was not what limited the relay."""
PORT = 7000


def complaints(result_mbps: float, figure: LinkFigure, link_mbps: float) -> list[str]:
    """What is wrong with a result, a line each: it must be the cells of what came in, and that must be all that can."""
    found = []
    if not is_full(figure, link_mbps):
        found.append(f"the link of {link_mbps:g} Mbit/s carried {figure.raw_mbps:.2f}: it was not full")
    if abs(percent_off(result_mbps, figure.cell_mbps)) > MAX_COUNT_ERROR_PCT:
        found.append(
            f"measured {result_mbps:.2f} Mbit/s of cells, the interface counted {figure.raw_mbps:.2f} Mbit/s, payload"
            f" {figure.payload_mbps:.2f}, cells {figure.cell_mbps:.2f}"
        )
    return found


def is_full(figure: LinkFigure, link_mbps: float) -> bool:
    """Whether nothing else limited the relay."""
    return figure.raw_mbps >= LEAST_FULL * link_mbps


class Bench:
    """A link with a relay at one end and a team at the other."""

    def __init__(self, mode: str, delay_s: float, folder: Path) -> None:
        self.mode = mode
        self._seconds = FAR_SECONDS[mode] if delay_s else SECONDS
        self._used = 0
        self._link = ShapedLink(RATES_MBPS[0], delay_s)
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> "Bench":
        with ExitStack() as stack:
            link = stack.enter_context(self._link)
            with link.inside_team():
                self._deployment = stack.enter_context(self._make(link))
                self._deployment.start()
                record = self._deployment.start_child("link", link.recorder_command(self._folder / "link"))
                record.wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def measure(self, mbps: float) -> tuple[float, LinkFigure]:
        """The result, Mbit/s, over a link of that rate; and what the relay's interface received meanwhile."""
        relays = self._deployment.relays
        relay = relays[self._used % len(relays)]
        self._used += 1
        self._link.change(mbps)
        with self._link.inside_team(), self._deployment.ctrl() as client:
            result = measured(client, Console(stderr=True), relay, f"{mbps:g} Mbit/s")
        figure = read_link(self._folder / "link", result["active_utc_s"], self._seconds)
        return to_mbps(result["result_bytes"]), figure

    def _make(self, link: ShapedLink) -> Deployment | TorDeployment:
        if self.mode == "loop":
            tor = TorPlan((None,), self._seconds, link.team_host)
            return TorDeployment(tor, self._folder, relay_host=link.relay_host, relay_exec=link.relay_exec)
        rates = (UNREACHED_MBPS,) * len(RATES_MBPS)  # a relay admits two measurements a day
        plan = Plan(rates, self._seconds, 0.0, link.team_host)
        return Deployment(plan, self._folder, relay_host=link.relay_host, relay_exec=link.relay_exec)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("echo", 0.0), id="echo"),
        pytest.param(("loop", 0.0), id="loop"),
        pytest.param(("echo", DELAY_S), id="echo-far"),
        pytest.param(("loop", DELAY_S), id="loop-far"),
    ],
)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    mode, delay_s = request.param
    need_netns()
    if mode == "loop":
        need_tor()
    with Bench(mode, delay_s, tmp_path_factory.mktemp("link")) as made:
        yield made


@pytest.mark.net
@pytest.mark.parametrize("mbps", RATES_MBPS)
def test_a_result_is_what_the_relay_s_interface_received(bench: Bench, mbps: float) -> None:
    for last in (False, True):
        result_mbps, figure = bench.measure(mbps)
        print(f"\n{bench.mode}, link of {mbps:g} Mbit/s: measured {result_mbps:.3f}, interface {figure}")
        if last or is_full(
            figure, mbps
        ):  # else the machine was the limit, and this says nothing about the link
            break
    assert complaints(result_mbps, figure, mbps) == []
    # a fault of a fifth, on either side, is found by the same comparison
    assert complaints(0.8 * result_mbps, figure, mbps)
    assert complaints(result_mbps, replace(figure, cell_mbps=0.8 * figure.cell_mbps), mbps)
    assert complaints(result_mbps, replace(figure, raw_mbps=0.8 * figure.raw_mbps), mbps)


STREAM_BYTES = 15_000_000
"""Six seconds of the link: on a busy machine any one of them may be short of something."""
LISTENER = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
stream, _ = listener.accept()
count = 0
while data := stream.recv(1 << 16):
    count += len(data)
print("got", count, flush=True)
"""
HOLDER = """
import time
from flashflow.testnet.links import ShapedLink
with ShapedLink(10, 0.01):
    print("ready", flush=True)
    time.sleep(1000)
"""


def started(stack: ExitStack, name: str, argv: list[str], folder: Path) -> Child:
    child = Child(name, argv, folder)
    stack.callback(stop_all, [child], 0.0)
    child.wait_ready()
    return child


def test_a_link_has_its_rate_and_its_interface_counts_what_a_stream_carries(tmp_path: Path) -> None:
    need_netns()
    with ExitStack() as stack:
        link = stack.enter_context(ShapedLink(20))
        recorder = started(stack, "link", link.recorder_command(tmp_path / "link"), tmp_path)
        argv = [*link.relay_exec, sys.executable, "-c", LISTENER, link.relay_host, str(PORT)]
        listener = started(stack, "listener", argv, tmp_path)
        with link.inside_team(), socket.create_connection((link.relay_host, PORT)) as stream:
            begin_utc_s = time.time()
            stream.sendall(bytes(STREAM_BYTES))
        assert listener.wait(20)
        assert f"got {STREAM_BYTES}\n" in (tmp_path / "listener.out").read_text()
        # to a thousandth: ARP is shorter than our headers, a handshake's are longer, a segment may come twice
        about = pytest.approx(STREAM_BYTES, rel=0.001)
        wait_for("recording", 5, lambda: total_payload_bytes(tmp_path / "link") == about or None)
        assert recorder.alive
    figure = read_link(tmp_path / "link", begin_utc_s + 0.5, 5)
    assert complaints(figure.cell_mbps, figure, 20) == []
    assert complaints(figure.cell_mbps, figure, 25)
    assert figure.raw_mbps < 20.2
    assert figure.payload_mbps / figure.raw_mbps == pytest.approx(1448 / 1514, rel=0.001)


def total_payload_bytes(path: Path) -> int:
    last = json.loads(path.read_text().splitlines()[-1])
    return int(last["read_bytes"] - HEADER_BYTES * last["read_packets"])


def test_a_far_relay_answers_after_the_round_trip(tmp_path: Path) -> None:
    need_netns()
    with ExitStack() as stack:
        link = stack.enter_context(ShapedLink(20, 0.05))
        argv = [*link.relay_exec, sys.executable, "-c", LISTENER, link.relay_host, str(PORT)]
        started(stack, "listener", argv, tmp_path)
        before_s = time.monotonic()
        with link.inside_team(), socket.create_connection((link.relay_host, PORT)):
            assert time.monotonic() - before_s >= 0.1


def test_a_link_that_cannot_be_made_leaves_nothing() -> None:
    need_netns()
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(LocalError, match=r"tc qdisc .* rate 0bit"), ShapedLink(0):
        pass
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.faults
def test_a_killed_run_leaves_nothing(tmp_path: Path) -> None:
    need_netns()
    with ExitStack() as stack:
        holder = started(stack, "holder", [sys.executable, "-c", HOLDER], tmp_path)
        processes = psutil.Process(holder.pid).children(recursive=True)
        assert len(processes) == 4  # three namespaces, and what delays
        holder.kill()
        assert not left_of(processes, 5)
