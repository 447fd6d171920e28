"""The coordinator under load: 100 measurements by 10 measurers at once, 1,000 reports a second over real mTLS.

This process is the coordinator (its core, sessions and store; the Tor client is played), another one is all the
measurers. Figures: reports handled per second of the coordinator's CPU, and how late its loop is (p99).
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.handle import Coordinator
from coordinator.core.params import Params
from coordinator.outputs.store_thread import StoreThread
from flashflow.directory.filter import RelayFilter
from flashflow.keys import keygen
from flashflow.keys.certificates import export_certificate
from flashflow.model.ids import Address, Fingerprint
from flashflow.model.relay import RelayInfo
from flashflow.shell.aio import run
from flashflow.shell.loop import Loop
from flashflow.shell.parent import child_environment
from flashflow.shell.sessionclient import ServerMessage, SessionClient
from flashflow.shell.sessions import PeerJoined, PeerMessage, SessionServer
from flashflow.store.latest import LatestResult
from flashflow.store.store import Store
from flashflow.torctl import events as tor
from flashflow.torctl.client import SendTorCommand, TorCameUp, TorReplied
from flashflow.wire import messages as wire

MEASUREMENTS = 100
MEASURERS = 10
DURATION_S = 20
WARMUP_S = 1
PROBE_S = 0.01
LIMITS = {"loop_delay_p99_ms": 100.0, "reports_per_cpu_s": 1000.0}
"""The loop may be this late at most; at 1,000 reports a second one core must suffice."""


class Load:
    """One run of the coordinator under load."""

    def __init__(self, folder: Path, store: Store) -> None:
        params = Params(duration_s=DURATION_S, warmup_s=WARMUP_S, background_ratio=Fraction(1, 4))
        self.sessions = SessionServer(
            key_file=folder / "coord.pem", peers_dir=folder / "peers", on_event=self.on_session
        )
        self.thread = StoreThread(
            store,
            v3bw=folder / "v3bw",
            max_age_s=86400,
            publish_loop_results=False,
            version="bench",
            post=self.post,
        )
        self.outcomes: list[str] = []
        self.joined = 0
        self.reports = 0
        self.delays_s: list[float] = []
        self.cpu_s = 0.0
        self.loop = Loop(Coordinator(params), self.outputs())

    def post(self, event: object) -> None:
        self.loop.post(event)

    def outputs(self) -> dict[type, Any]:
        return {
            do.SendToMeasurer: lambda e: self.sessions.send(e.name, e.message),
            SendTorCommand: self.play_tor,
            do.SendToCtrl: self.on_answer,
            do.SaveMeasurement: self.thread.save_measurement,
            do.SaveProgress: self.thread.save_progress,
            do.WriteV3bw: self.thread.write_v3bw,
            do.LoadRelays: lambda e: None,
            do.Log: lambda e: None,
        }

    def on_session(self, event: object) -> None:
        if isinstance(event, PeerJoined):
            self.joined += 1
            self.post(ev.MeasurerJoined(event.name, event.capacity_bytes, event.host))
            if self.joined == MEASURERS:
                self.begin()
        elif isinstance(event, PeerMessage):
            self.reports += isinstance(event.message, wire.BwReport)
            self.post(ev.MeasurerSaid(event.name, event.message))
        else:
            raise RuntimeError(f"unexpected: {event}")

    def begin(self) -> None:
        relays = tuple(fake_relay(n) for n in range(1, MEASUREMENTS + 1))
        known = tuple(fake_result(relay) for relay in relays)
        self.post(ev.Started(bytes(32), known, (), None))
        self.post(ev.RelaysLoaded(relays, RelayFilter.parse("allow *", "bench")))
        self.post(TorCameUp())
        self.cpu_s = time.process_time()
        asyncio.get_running_loop().call_later(PROBE_S, self.probe, time.monotonic() + PROBE_S)
        for relay in relays:
            self.post(ev.CtrlSaid(1, f"measure {relay.fingerprint} wait"))

    def probe(self, due_s: float) -> None:
        now = time.monotonic()
        self.delays_s.append(now - due_s)
        asyncio.get_running_loop().call_later(PROBE_S, self.probe, now + PROBE_S)

    def play_tor(self, effect: SendTorCommand) -> None:
        soon = asyncio.get_running_loop().call_soon
        words = effect.line.split()
        meas_id = int(words[1])
        launch = len(words) > 4
        soon(
            self.post,
            TorReplied(effect.effect_id, ok=True, text=f"LAUNCHED {meas_id}" if launch else "OK"),
        )
        if launch:
            soon(self.post, tor.ParamsOk(meas_id, accepted=True))
        elif words[0] == "COORD_START_MEAS":
            for second in range(1, WARMUP_S + DURATION_S + 1):
                report = tor.BwReport(meas_id, second, 1000, 1000)
                asyncio.get_running_loop().call_later(second, self.post, report)

    def on_answer(self, effect: do.SendToCtrl) -> None:
        if effect.kind == "ERR":
            raise RuntimeError(str(effect.data))
        if effect.data.get("event") == "done":
            self.outcomes.append(effect.data["outcome"])
            if len(self.outcomes) == MEASUREMENTS:
                self.cpu_s = time.process_time() - self.cpu_s
                self.loop.stop()


def fake_relay(number: int) -> RelayInfo:
    """Relay `number`; nobody connects to it."""
    address = Address("127.0.0.1", 1 + number)
    keys = bytes([number % 256]) * 32
    return RelayInfo(
        Fingerprint(f"{number:040X}"),
        f"r{number}",
        address,
        keys,
        keys,
        None,
        None,
        None,
        None,
        unmeasured=True,
    )


def fake_result(relay: RelayInfo) -> LatestResult:
    """An estimate small enough that all fit at once."""
    return LatestResult(relay.fingerprint, relay.nickname, "echo", 0.0, 1_000_000, 0, True, None)


def coordinate(folder: Path) -> dict[str, float]:
    """The figures of one run. Raises RuntimeError if a report or a measurement was lost."""

    async def main() -> Load:
        store = Store.open(folder / "results.sqlite")
        load = Load(folder, store)
        address = await load.sessions.start(Address("127.0.0.1", 0))
        command = [sys.executable, "-m", "benchmarks.coordinator", str(folder), str(address.port)]
        team = subprocess.Popen(command, env=child_environment())
        try:
            await asyncio.wait_for(load.loop.run(), 120)
        finally:
            team.terminate()
            team.wait()
            await load.sessions.close()
            await load.thread.close()
        return load

    load = run(main())
    delays = sorted(load.delays_s)
    expected = MEASUREMENTS * MEASURERS * DURATION_S
    if load.reports != expected or load.outcomes.count("ok") != MEASUREMENTS:
        raise RuntimeError(
            f"{load.reports} of {expected} reports, {load.outcomes.count('ok')} measurements ok"
        )
    return {
        "reports": expected,
        "reports_per_s": MEASUREMENTS * MEASURERS,
        "reports_per_cpu_s": round(expected / load.cpu_s, 1),
        "loop_delay_p50_ms": round(1000 * delays[len(delays) // 2], 3),
        "loop_delay_p99_ms": round(1000 * delays[len(delays) * 99 // 100], 3),
        "loop_delay_max_ms": round(1000 * delays[-1], 3),
    }


def measure() -> tuple[dict[str, float], list[str]]:
    """Figures, and the limits missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "peers").mkdir()
        now = datetime.now(UTC)
        keygen(folder / "coord.pem", "coord", now)
        export_certificate(folder / "coord.pem", folder / "coord.cert.pem")
        for number in range(MEASURERS):
            own = folder / f"m{number}.pem"
            keygen(own, f"m{number}", now)
            export_certificate(own, folder / "peers" / f"m{number}.cert.pem")
        figures = coordinate(folder)
    missed = []
    if figures["loop_delay_p99_ms"] > LIMITS["loop_delay_p99_ms"]:
        missed.append(f"loop_delay_p99_ms {figures['loop_delay_p99_ms']} > {LIMITS['loop_delay_p99_ms']}")
    if figures["reports_per_cpu_s"] < LIMITS["reports_per_cpu_s"]:
        missed.append(f"reports_per_cpu_s {figures['reports_per_cpu_s']} < {LIMITS['reports_per_cpu_s']}")
    return figures, missed


class FakeMeasurer:
    """Answers as a measurer does, without traffic."""

    def __init__(self, folder: Path, number: int, port: int) -> None:
        self.client = SessionClient(
            key_file=folder / f"m{number}.pem",
            coord_cert=folder / "coord.cert.pem",
            coord_addr=Address("127.0.0.1", port),
            capacity_bytes=10**10,
            on_event=self.on_event,
        )

    def on_event(self, event: object) -> None:
        message = event.message if isinstance(event, ServerMessage) else None
        if isinstance(message, wire.ConnectToRelay):
            self.client.send(wire.ConnectedToRelay(meas_id=message.meas_id, n_circs=message.n_circs))
        elif isinstance(message, wire.Go):
            for second in range(1, DURATION_S + 1):
                report = wire.BwReport(
                    meas_id=message.meas_id, second=second, sent_bytes=10**6, recv_bytes=10**6
                )
                asyncio.get_running_loop().call_later(WARMUP_S + second, self.client.send, report)


def play_measurers(folder: Path, port: int) -> None:
    """All measurers, until the parent ends us."""

    async def main() -> None:
        await asyncio.gather(*(FakeMeasurer(folder, n, port).client.run() for n in range(MEASURERS)))

    run(main())


if __name__ == "__main__":
    from flashflow.shell.parent import follow_parent

    follow_parent()
    os.nice(5)
    play_measurers(Path(sys.argv[1]), int(sys.argv[2]))
