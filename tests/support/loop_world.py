"""Loop measurements of a stock tor: the tor with a record of its own counts, a far end, and torclient."""

import base64
import contextlib
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import psutil

from flashflow.demo.tor_report import MAX_SPREAD
from flashflow.model.ids import Address, Fingerprint, MeasId, parse_address
from flashflow.model.network import NetworkLimits
from flashflow.relay.identities import encode_identities
from flashflow.shell.parent import child_environment, own_command
from flashflow.testnet.tornet_bw import CELL_SHARE, median_bw_read_mbps, read_bw, recorder_command
from flashflow.testnet.tornet_node import TorNode
from flashflow.torctl.commands import FarEnd, MeasrStart, Target, parse_far_end
from flashflow.torctl.events import BwReport, CircEvent, MeasEnd
from support.or_client import Target as OrTarget
from support.orlink_keys import relay_keys
from support.real_tor import RealTor
from support.torclient_process import PATIENCE_S

MEAS_ID = MeasId(7)
STOP_S = 10.0


class CountedTor(RealTor):
    """A tor whose BW events are recorded; `rate_mbps` is its RelayBandwidthRate."""

    def __init__(self, folder: Path, rate_mbps: float | None = None) -> None:
        port_file = folder / "control-port"
        limits = []
        if rate_mbps is not None:
            rate = int(rate_mbps * 125_000)
            limits = [f"RelayBandwidthRate {rate} bytes", f"RelayBandwidthBurst {rate} bytes"]
        super().__init__(
            folder,
            extra=(
                "ControlPort 127.0.0.1:auto",
                f"ControlPortWriteToFile {port_file}",
                "CookieAuthentication 1",
                *limits,
            ),
        )
        self._port_file = port_file
        self.counts = folder / "bw"
        self._recorder: subprocess.Popen[str] | None = None

    def __enter__(self) -> "CountedTor":
        self.wait_for("control port", self._port_file)
        place = parse_address(self._port_file.read_text().strip().removeprefix("PORT="))
        self._recorder = subprocess.Popen(
            recorder_command({self.counts: place}),
            stdout=subprocess.PIPE,
            env=child_environment(),
            text=True,
        )
        assert self._recorder.stdout is not None
        assert self._recorder.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *exc: object) -> None:
        if self._recorder is not None:
            self._recorder.terminate()
            self._recorder.communicate(timeout=STOP_S)
        super().__exit__(*exc)


def node_target(node: TorNode) -> OrTarget:
    """A tor of a network, once it runs; its ntor key is read where tor keeps it."""
    ed25519 = base64.b64decode((node.data / "fingerprint-ed25519").read_text().split()[1] + "=")
    stored = (node.data / "keys" / "secret_onion_key_ntor").read_bytes()
    host, port = node.or_addresses[-1]
    return OrTarget(host, port, bytes.fromhex(node.fingerprint()), ed25519, stored[-32:])


@contextlib.contextmanager
def far_end_process(folder: Path, only_peer: str, host: str = "127.0.0.1", identities: int = 4):
    """`flashflow relay --far-end`; gives the process and its identities."""
    path = folder / "identities"
    path.write_bytes(encode_identities([relay_keys(10 + number) for number in range(identities)]))
    listen = ["--listen", str(Address(host, 0)), "--identities", str(path)]
    process = subprocess.Popen(
        own_command("relay", "--far-end", "--only-peer", only_peer, *listen),
        stdout=subprocess.PIPE,
        env=child_environment(),
        text=True,
    )
    try:
        listed = json.loads(process.stdout.readline().removeprefix("ready "))
        yield (
            process,
            tuple(
                parse_far_end("/".join(one[key] for key in ("addr", "fingerprint", "ed25519", "ntor")))
                for one in listed
            ),
        )
    finally:
        process.terminate()
        process.communicate(timeout=STOP_S)


@dataclass
class Looped:
    """What came of a measurement."""

    end: MeasEnd
    reports: list[BwReport]
    active_utc_s: float
    cpu_s: dict[int, float]
    """CPU seconds by pid of those that were asked for."""

    def median_mbps(self) -> float:
        """The result, Mbit/s that the relay read."""
        return median(report.recv_bytes for report in self.reports) * 8 / 1e6

    def mean_mbps(self) -> float:
        """The mean over the seconds."""
        return mean(report.recv_bytes for report in self.reports) * 8 / 1e6

    def tor_median_mbps(self, tor: CountedTor) -> float:
        """The median by the relay's own count, in its own seconds, or in ours where those differ much, as the demo has it."""
        counted = median_bw_read_mbps(tor.counts, self.active_utc_s, len(self.reports))
        return counted.counter_mbps if counted.spread > MAX_SPREAD else counted.cell_mbps

    def tor_mean_mbps(self, tor: CountedTor) -> float:
        """The mean by the relay's own count, cut to our seconds."""
        begin_s, end_s = self.active_utc_s, self.active_utc_s + len(self.reports)
        total = sum(
            second.read_bytes * max(0.0, min(end_s, second.utc_s) - max(begin_s, second.utc_s - 1))
            for second in read_bw(tor.counts)
        )
        return total * CELL_SHARE * 8 / 1e6 / len(self.reports)


async def loop_through(
    client,
    target,
    far_ends: tuple[FarEnd, ...],
    *,
    n_circs: int = 4,
    dur_s: int = 10,
    warmup_s: int = 2,
    rate_bytes: int = 250_000_000,
    bucket_cells: int = 125,
    pids: tuple[int, ...] = (),
    limits: NetworkLimits | None = None,
    may_fail: bool = False,
) -> Looped:
    """Measures `target` (support.or_client.Target) with a TorClient; only with `may_fail` may a circuit fail."""
    fingerprint = Fingerprint(target.rsa_fingerprint.hex().upper())
    start = MeasrStart(
        MEAS_ID,
        fingerprint,
        n_circs,
        dur_s,
        rate_bytes,
        warmup_s,
        "loop",
        None,
        Target(Address(target.ip, target.port), target.ed25519, target.ntor_key),
        bucket_cells,
        far_ends,
        limits,
    )
    ok, _, text = await client.say(start)
    assert ok, text
    built, refused = 0, 0
    while built + refused < n_circs:
        event = await client.until(lambda event: isinstance(event, CircEvent | MeasEnd))
        if isinstance(event, MeasEnd):
            return Looped(event, [], 0.0, {})
        built += event.status == "BUILT"
        if not may_fail:  # stock tor has no time for one CREATE2 in hundreds; half of the circuits are enough
            is_refused = event.status == "FAILED" and event.reason == "CIRCUIT_REFUSED"
            assert is_refused or event.status in ("LAUNCHED", "BUILT"), event
            refused += is_refused
            assert 2 * refused <= n_circs, event
    cpu = {pid: _cpu_s(pid) for pid in pids}
    active_utc_s = time.time() + warmup_s
    assert (await client.say(MeasrStart(MEAS_ID, fingerprint, n_circs, dur_s)))[0]
    end = await client.until(lambda event: isinstance(event, MeasEnd), warmup_s + dur_s + PATIENCE_S)
    cpu = {pid: _cpu_s(pid) - before for pid, before in cpu.items()}
    return Looped(end, [event for event in client.events if isinstance(event, BwReport)], active_utc_s, cpu)


def _cpu_s(pid: int) -> float:
    process = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:2]) for one in [process, *process.children(recursive=True)])
