"""The coordinator under load: 100 measurements by 10 measurers at once, 1,000 reports a second for a minute, over mTLS.

This process is the coordinator (its core, sessions and store; the Tor client is played), another one is all the
measurers, and one more of them that loses its connection again and again; `strangers` adds a third process.
Figures: reports handled per second of the coordinator's CPU, how late its loop is, how its memory grows, how long the
measurer that reconnects is away. Reports are counted where they are sent and again in the database.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager as ContextManager
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil

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
from flashflow.shell.refusals import RefusalLog
from flashflow.shell.sessionclient import Connected, Disconnected, ServerMessage, SessionClient
from flashflow.shell.sessions import PeerGone, PeerJoined, PeerMessage, PeerRefused, SessionServer
from flashflow.store.latest import LatestResult
from flashflow.store.store import Store
from flashflow.torctl import events as tor
from flashflow.torctl.client import SendTorCommand, TorCameUp, TorReplied
from flashflow.wire import messages as wire
from flashflow.wire.rules import SessionFigures

MEASUREMENTS = 100
MEASURERS = 10
DURATION_S = 60
WARMUP_S = 1
PROBE_S = 0.01
SETTLED_S = 10
"""Memory is compared from then on: until then it is filled for the first time."""
CUT_EVERY_S = 3.0
END_S = 60
"""What is left at the end may take this long."""
MOST = {"loop_delay_p99_ms": 100.0, "memory_growth_mb": 32.0, "back_after_max_s": 10.0}
"""Figure -> the most that it may be. 60,000 reports are kept until their measurements end: that is the growth."""
LEAST = {"reports_per_cpu_s": 1000.0}
"""Figure -> the least; at 1,000 reports a second one core must suffice."""
NAMES = [f"m{number}" for number in range(MEASURERS)]
RECONNECTING = "again"
LEAST_RECONNECTS = 12
"""It is cut after three seconds of each connection."""


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
            keep_s=86400,
            publish_loop_results=False,
            version="bench",
            post=self.post,
        )
        self.refusals = RefusalLog(time.monotonic)
        self.outcomes: list[str] = []
        self.joined: set[str] = set()
        self.gone: list[str] = []
        self.reports = 0
        self.refused = 0
        self.delays_s: list[float] = []
        self.memory_mb: list[float] = []
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
            do.LogRefusal: lambda e: self.refusals.refused("message", e.name, e.reason),
        }

    def on_session(self, event: object) -> None:
        """As the coordinator's service does."""
        if isinstance(event, PeerJoined):
            self.post(ev.MeasurerJoined(event.name, event.capacity_bytes, event.host))
            self.joined.add(event.name)
            if len(self.joined) == len(NAMES) + 1 and not self.delays_s:
                self.begin()
        elif isinstance(event, PeerMessage):
            self.reports += isinstance(event.message, wire.BwReport)
            self.post(ev.MeasurerSaid(event.name, event.message))
        elif isinstance(event, PeerGone):
            self.gone.append(event.name)
            self.post(ev.MeasurerGone(event.name, event.reason))
        elif isinstance(event, PeerRefused):
            self.refused += 1
            self.refusals.refused(event.what, event.host, event.reason)

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
        if len(self.delays_s) % round(1 / PROBE_S) == 0:
            self.memory_mb.append(psutil.Process().memory_info().rss / 1e6)
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


def coordinate(folder: Path, beside: Callable[[int], ContextManager[None]]) -> dict[str, float]:
    """The figures of one run; `beside`, given the port, is entered before the measurers come.

    Raises RuntimeError if a report, a measurement or a measurer's connection was lost.
    """
    database = folder / "results.sqlite"

    async def main() -> tuple[Load, dict[str, float], dict[str, SessionFigures]]:
        load = Load(folder, Store.open(database))
        address = await load.sessions.start(Address("127.0.0.1", 0))
        command = [sys.executable, "-m", "benchmarks.coordinator", str(folder), str(address.port)]
        with beside(address.port):
            team = subprocess.Popen(command, env=child_environment(), stdout=subprocess.PIPE, text=True)
            try:
                await asyncio.wait_for(load.loop.run(), DURATION_S + END_S)
                figures = load.sessions.figures()
                said = (await asyncio.to_thread(team.communicate, timeout=END_S))[0]
            finally:
                team.kill()
                team.wait()
                await load.sessions.close()
                await load.thread.close()
        return load, json.loads(said), figures

    load, sent, sessions = run(main())
    _check_nothing_lost(load, sent, sessions, _stored_reports(database))
    delays = sorted(load.delays_s)
    return {
        "reports": load.reports,
        "reports_per_s": MEASUREMENTS * MEASURERS,
        "reports_per_cpu_s": round(load.reports / load.cpu_s, 1),
        "loop_delay_p50_ms": round(1000 * delays[len(delays) // 2], 3),
        "loop_delay_p99_ms": round(1000 * delays[len(delays) * 99 // 100], 3),
        "loop_delay_max_ms": round(1000 * delays[-1], 3),
        "memory_mb": round(load.memory_mb[-1], 1),
        "memory_growth_mb": round(load.memory_mb[-1] - load.memory_mb[SETTLED_S], 1),
        "reconnects": sent["reconnects"],
        "back_after_max_s": sent["back_after_max_s"],
        "refused_connections": load.refused,
    }


def _check_nothing_lost(
    load: Load, sent: dict[str, float], sessions: dict[str, SessionFigures], stored: int
) -> None:
    expected = MEASUREMENTS * MEASURERS * DURATION_S
    counted = {
        "sent": sent["sent"],
        "acknowledged": sent["acknowledged"],
        "received": load.reports,
        "stored": stored,
    }
    problems = [f"{count} of {expected} reports {how}" for how, count in counted.items() if count != expected]
    if load.outcomes.count("ok") != MEASUREMENTS:
        problems.append(f"{load.outcomes.count('ok')} of {MEASUREMENTS} measurements ok")
    if any(sessions[name].connections != 1 for name in NAMES) or sent["lost"] or set(load.gone) & set(NAMES):
        problems.append(f"measurers disconnected: {sent['lost']:g} times, gone: {load.gone}")
    if sent["reconnects"] < LEAST_RECONNECTS:
        problems.append(f"the measurer that is cut came back {sent['reconnects']:g} times")
    if problems:
        raise RuntimeError("; ".join(problems))


def _stored_reports(database: Path) -> int:
    store = Store.open(database)
    records = store.results(None, 2 * MEASUREMENTS)
    store.close()
    return sum(len(share.reports) for record in records for share in record.shares)


def make_keys(folder: Path) -> None:
    """Keys and certificates of the coordinator and of all measurers."""
    (folder / "peers").mkdir()
    now = datetime.now(UTC)
    keygen(folder / "coord.pem", "coord", now)
    export_certificate(folder / "coord.pem", folder / "coord.cert.pem")
    for name in (*NAMES, RECONNECTING):
        keygen(folder / f"{name}.pem", name, now)
        export_certificate(folder / f"{name}.pem", folder / "peers" / f"{name}.cert.pem")


def measure(
    beside: Callable[[int], ContextManager[None]] = lambda port: contextlib.nullcontext(),
) -> tuple[dict[str, float], list[str]]:
    """Figures, and the limits missed."""
    with tempfile.TemporaryDirectory() as name:
        make_keys(Path(name))
        figures = coordinate(Path(name), beside)
    missed = [f"{key} {figures[key]} > {most}" for key, most in MOST.items() if figures[key] > most]
    missed += [f"{key} {figures[key]} < {least}" for key, least in LEAST.items() if figures[key] < least]
    return figures, missed


class FakeMeasurer:
    """Answers as a measurer does, without traffic."""

    def __init__(self, folder: Path, name: str, port: int, capacity_bytes: int = 10**10) -> None:
        self.client = SessionClient(
            key_file=folder / f"{name}.pem",
            coord_cert=folder / "coord.cert.pem",
            coord_addr=Address("127.0.0.1", port),
            capacity_bytes=capacity_bytes,
            on_event=self.on_event,
        )
        self.sent = 0
        self.lost = 0
        self.connected = asyncio.Event()

    def on_event(self, event: object) -> None:
        """Orders of the coordinator, and the connection's begin and end."""
        message = event.message if isinstance(event, ServerMessage) else None
        if isinstance(message, wire.ConnectToRelay):
            self.client.send(wire.ConnectedToRelay(meas_id=message.meas_id, n_circs=message.n_circs))
        elif isinstance(message, wire.Go):
            for second in range(1, DURATION_S + 1):
                report = wire.BwReport(
                    meas_id=message.meas_id, second=second, sent_bytes=10**6, recv_bytes=10**6
                )
                asyncio.get_running_loop().call_later(WARMUP_S + second, self.report, report)
        elif isinstance(event, Connected):
            self.connected.set()
        elif isinstance(event, Disconnected):
            self.lost += 1
            self.connected.clear()

    def report(self, report: wire.BwReport) -> None:
        """Send one."""
        self.sent += 1
        self.client.send(report)

    def cut(self) -> None:
        """The connection breaks, as the network breaks it."""
        link = self.client._link
        if link is not None:
            link.abort()


async def lose_connection_again_and_again(measurer: FakeMeasurer, away_s: list[float]) -> None:
    """Until cancelled; `away_s` gets how long each took until the session was live again."""
    while True:
        await measurer.connected.wait()
        await asyncio.sleep(CUT_EVERY_S)
        measurer.connected.clear()
        since_s = time.monotonic()
        measurer.cut()
        await measurer.connected.wait()
        away_s.append(time.monotonic() - since_s)


def play_measurers(folder: Path, port: int) -> None:
    """All measurers, until every report of a whole run was taken over; prints what they counted."""

    async def main() -> dict[str, float]:
        team = [FakeMeasurer(folder, name, port) for name in NAMES]
        again = FakeMeasurer(folder, RECONNECTING, port, capacity_bytes=1)  # too little to take part
        away_s: list[float] = []
        work = [asyncio.create_task(measurer.client.run()) for measurer in (*team, again)]
        work.append(asyncio.create_task(lose_connection_again_and_again(again, away_s)))
        whole = MEASUREMENTS * MEASURERS * DURATION_S
        while sum(m.sent for m in team) < whole or any(m.client.pending for m in team):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        counted = {
            "sent": sum(m.sent for m in team),
            "acknowledged": sum(m.sent - m.client.pending for m in team),
            "lost": sum(m.lost for m in team),
            "reconnects": len(away_s),
            "back_after_max_s": round(max(away_s, default=0.0), 2),
        }
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        return counted

    print(json.dumps(run(main())))


if __name__ == "__main__":
    from flashflow.shell.parent import follow_parent

    follow_parent()
    os.nice(5)
    play_measurers(Path(sys.argv[1]), int(sys.argv[2]))
