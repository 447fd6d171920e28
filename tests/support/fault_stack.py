"""A whole deployment of real processes, a proxy before each measurer's session, and what a test may break."""

import contextlib
import selectors
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from flashflow.ctrl.protocol import CtrlRefusedError
from flashflow.demo.child import Child
from flashflow.demo.deployment import Deployment, RunningRelay
from flashflow.demo.plan import Plan
from flashflow.demo.team import MEASURERS
from flashflow.model.errors import FlashFlowError
from flashflow.model.ids import Address
from flashflow.shell.parent import own_command
from flashflow.testnet.counts import median_read_mbps
from support.waiting import wait_for

Event = dict[str, Any]
MEASURER = own_command("measurer")
SECONDS = 3
RATE_MBPS = 10.0
MAX_ERROR = 0.03
PATIENCE_S = 60.0


def failure_of(done: Event) -> tuple[str, str]:
    """Whose fault it was that a measurement failed, and the reason."""
    assert done["outcome"] == "failed", done
    return done["failure"]["fault"], done["failure"]["reason"]


class Proxy:
    """Forwards connections to where the coordinator is; can cut them, or keep still without closing anything."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._refusing = self._still = self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Connections end, and new ones are closed at once."""
        with self._lock:
            self._refusing = True
            for one in list(self._pairs):
                self._drop(one)
        try:
            yield
        finally:
            self._refusing = False

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Nothing gets through any more, and nobody is told."""
        self._still = True
        try:
            yield
        finally:
            self._still = False

    def close(self) -> None:
        self._closed = True
        self._thread.join(5)
        with self._lock:
            for one in list(self._pairs):
                self._drop(one)
        self._listener.close()

    def _run(self) -> None:
        self._listener.settimeout(0)
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self._closed:
            for key, _ in self._selector.select(0.05):
                with self._lock:
                    if key.fileobj is self._listener:
                        self._accept()
                    elif not self._still and key.fileobj in self._pairs:
                        self._forward(key.fileobj)
            if self._still:
                time.sleep(0.05)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            near, _ = self._listener.accept()
            if self._refusing:
                near.close()
                return
            try:
                far = socket.create_connection(self.target, timeout=2)
            except OSError:
                near.close()
                return
            for one, other in ((near, far), (far, near)):
                self._pairs[one] = other
                self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, one: socket.socket) -> None:
        try:
            data = one.recv(65536)
            if data:
                self._pairs[one].sendall(data)
                return
        except OSError:
            pass
        self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        for end in (one, other):
            if end is not None:
                self._pairs.pop(end, None)
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(end)
                end.close()


class FaultStack(Deployment):
    """Three reference relays, a coordinator, two measurers."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        super().__init__(Plan((RATE_MBPS,) * 3, SECONDS, 0, host), folder)
        self.proxies: dict[str, Proxy] = {}
        self.seen: dict[int, Event | None] = {}
        """Every measurement that a controller was told of, and its end as it heard it."""

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        for proxy in self.proxies.values():
            proxy.close()

    def relay_options(self) -> dict[str, str]:
        return {**super().relay_options(), "--max-per-period": "1000"}

    def way_to(self, coordinator: Address, measurer: str) -> Address:
        proxy = self.proxies.setdefault(measurer, Proxy(coordinator))
        proxy.target = coordinator
        return proxy.address

    @property
    def last(self) -> int:
        """The measurement that a controller was told of last."""
        return list(self.seen)[-1]

    @property
    def database(self) -> Path:
        return self.folder / "coord" / "results" / "results.sqlite"

    def process(self, name: str) -> psutil.Process:
        return psutil.Process(self.child(name).pid)

    def part(self, name: str, module: str) -> psutil.Process:
        """The process among those that `name` started whose command line has `module`."""
        return next(p for p in self.process(name).children(recursive=True) if module in " ".join(p.cmdline()))

    def start_coordinator_again(self) -> None:
        """On other ports: the proxies lead there."""
        self.children.remove(self.child("coordinator"))
        address = self._start_coordinator(self.settings())
        for proxy in self.proxies.values():
            proxy.target = address

    def start_again(self, name: str, argv: Sequence[str] = MEASURER) -> None:
        """A measurer that has ended, once the coordinator has noticed."""
        wait_for(lambda: self.status()["measurers"] < len(MEASURERS), "it is gone", 15)
        self.children.remove(self.child(name))
        self.start_child(name, [*argv, "--config", str(self.folder / name / "measurer.conf")])

    def start_relay_again(self, relay: RunningRelay) -> None:
        """With its keys, at its address."""
        self.children.remove(relay.child)
        old = self.relays.index(relay)
        spec = self._start_relay_at(relay)
        spec.wait_ready()
        self.relays[old] = RunningRelay(
            relay.nickname, relay.fingerprint, relay.address, relay.rate_mbps, relay.counts, spec
        )

    def _start_relay_at(self, relay: RunningRelay) -> Child:
        argv = [str(relay.address) if word.endswith(":0") else word for word in self._argv[relay.nickname]]
        return self.start_child(relay.nickname, argv)

    def start_child(self, name: str, argv: Any) -> Child:
        self._argv = {**getattr(self, "_argv", {}), name: list(argv)}
        return super().start_child(name, argv)

    # --- measuring ---

    def status(self) -> dict[str, Any]:
        with self.ctrl() as client:
            return client.request("status")

    def ready(self) -> None:
        """Until a measurement could begin."""

        def is_ready() -> bool:
            try:
                with self.ctrl() as client:
                    status, team = client.request("status"), client.request("measurers")["measurers"]
            except FlashFlowError:  # it is not there yet
                return False
            here = [one for one in team if one["session"] and one["session"]["phase"] == "open"]
            return status["state"] == "ready" and len(here) == 2 and self._have_clients()

        wait_for(is_ready, "the deployment is ready again", PATIENCE_S)

    def _have_clients(self) -> bool:
        """Whether each measurer's Tor client is up, as it says itself."""
        logs = [(self.folder / "logs" / f"{name}.log").read_text() for name in MEASURERS]
        return all(log.count("the Tor client is up") > log.count("the Tor client was lost") for log in logs)

    def end_of(self, events: Iterator[Event]) -> Event:
        """The last event of a measurement."""
        done = list(events)[-1]
        self.seen[done["meas_id"]] = done
        return done

    @contextlib.contextmanager
    def measuring(self, relay: RunningRelay, phase: str = "active") -> Iterator[Iterator[Event]]:
        """A measurement that has come to a phase, or to a second; gives the events that follow."""
        with self.ctrl() as client:
            begun = client.request("measure", relay.fingerprint, "wait")
            self.seen[begun["meas_id"]] = None
            events = client.events()
            for event in events:
                assert event["event"] != "done", event
                if event.get("phase") == phase or (phase == "second" and event["event"] == "second"):
                    break
            yield events

    def measure(self, relay: RunningRelay) -> Event:
        with self.ctrl() as client:
            self.seen[client.request("measure", relay.fingerprint, "wait")["meas_id"]] = None
            return self.end_of(client.events())

    # --- what has to hold ---

    def check(self) -> None:
        """After a fault: a relay is measured, and whatever was promised is so."""
        self.ready()
        assert self.measure(self.relays[0])["outcome"] == "ok"
        wait_for(lambda: not self.complaints(), "; ".join(self.complaints()) or "no complaint", 15)

    def rows(self) -> dict[int, dict[str, Any]]:
        """What the store holds, read by SQLite alone."""
        return {row["meas_id"]: row for row in self._read("SELECT * FROM measurement")}

    def _read(self, query: str) -> list[dict[str, Any]]:
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    def complaints(self) -> list[str]:
        """Whatever was promised and is not so; the relays' own counts are the truth."""
        rows = self.rows()
        found = []
        for meas_id, told in self.seen.items():
            row = rows.get(meas_id)
            if row is None:
                found.append(f"{meas_id} is not in the store")
            elif row["result_bytes"] is None and not (row["failure_kind"] and row["failure_reason"]):
                found.append(f"{meas_id} failed without a reason")
            elif told is not None and told["result_bytes"] != row["result_bytes"]:
                found.append(
                    f"{meas_id}: a controller heard {told['result_bytes']}, stored {row['result_bytes']}"
                )
        twice = self._read("SELECT meas_id FROM measurement GROUP BY meas_id HAVING count(*) > 1")
        found += [f"{row['meas_id']} is in the store more than once" for row in twice]
        found += [one for row in rows.values() for one in self._of_result(row)]
        return found + self._of_file(rows) + self._of_traffic()

    def _of_result(self, row: dict[str, Any]) -> list[str]:
        relay = next((one for one in self.relays if one.fingerprint == row["fingerprint"]), None)
        if row["result_bytes"] is None or relay is None:
            return []
        counted = median_read_mbps(relay.counts, row["active_utc_s"], row["duration_s"])
        measured = row["result_bytes"] / 125_000
        if abs(measured / counted - 1) <= MAX_ERROR:
            return []
        return [f"{row['meas_id']}: measured {measured:.2f} Mbit/s, the relay counted {counted:.2f}"]

    def _of_file(self, rows: dict[int, dict[str, Any]]) -> list[str]:
        path = self.folder / "coord" / "results" / "v3bw"
        with self.ctrl() as client, contextlib.suppress(CtrlRefusedError):
            client.request("v3bw")
        if not path.exists():
            return []
        results: dict[str, set[int]] = {}
        for row in rows.values():
            results.setdefault(row["fingerprint"], set()).add(row["result_bytes"])
        lines = [line.split() for line in path.read_text().splitlines() if line.startswith("node_id")]
        pairs = [dict(pair.split("=", 1) for pair in line) for line in lines]
        return [
            f"the file has {row['ff_result']} for {row['node_id']}"
            for row in pairs
            if "ff_result" in row and int(row["ff_result"]) not in results.get(row["node_id"][1:], set())
        ]

    def _of_traffic(self) -> list[str]:
        status = self.status()
        return [f"still in work: {one}" for one in status["measurements"]]
