"""A whole deployment on loopback: reference relays, a coordinator, two measurers, each a process of its own.

Layout of the folder: `coord/` and `measurerN/` as `flashflow init` makes them, `relayN/` the relays' data directories,
`net/` consensus and descriptors, `logs/` what each process wrote.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from flashflow.ctrl.access import Access
from flashflow.ctrl.client import CtrlClient
from flashflow.demo.child import Child, ChildFailedError, stop_all
from flashflow.demo.plan import BACKGROUND_RATIO, MEASURERS, Plan
from flashflow.directory.files import load_relays
from flashflow.keys.certificates import export_certificate, keygen
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address, Fingerprint, parse_address, parse_fingerprint
from flashflow.model.relay import RelayInfo
from flashflow.relay.identity import DESCRIPTOR_FILE
from flashflow.shell.parent import own_command
from flashflow.testnet.consensus import assemble
from flashflow.testnet.relays import COUNTS_FILE, RelaySpec, module_command

WARMUP_S = 2
RARE_SLOT_S = 604_800
"""The demo measures by `ctrl measure` alone: the coordinator's own slots come once a week."""
TEAM_READY_S = 30.0
END_S = 5.0
"""Time that the processes have to end by themselves after a demo."""
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class RunningRelay:
    """One reference relay."""

    nickname: str
    """Its nickname, and its folder's name."""
    fingerprint: Fingerprint
    """Its identity."""
    address: Address
    """Its OR port."""
    rate_mbps: float
    """Its configured limit, cell Mbit/s."""
    counts: Path
    """Its own count of the bytes on its sockets."""
    child: Child
    """The process."""


class Deployment:
    """The processes of one demo; as a context manager it ends them all, whatever happens."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        relay_command: Sequence[str] | None = None,
        commands: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`relay_command` starts the relays instead of `flashflow relay`, `commands` those of these nicknames."""
        self.plan = plan
        self.folder = folder
        self.relays: list[RunningRelay] = []
        self.children: list[Child] = []
        self._relay_command = relay_command or own_command("relay")
        self._commands = commands or {}
        self._logs = folder / "logs"
        self._known: dict[Fingerprint, RelayInfo] = {}
        self._access: Access | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop_all(self.children, END_S if kind is None else 0.0)

    def start(self) -> None:
        """Start everything and wait until a measurement could begin. Raises LocalError, NetworkError."""
        for name in ("coord/keys", "net", "logs", *(f"{name}/keys" for name in MEASURERS)):
            (self.folder / name).mkdir(mode=0o700, parents=True)
        self._make_keys()
        self._start_relays()
        self._write_network()
        coordinator = self._start_coordinator()
        self._start_measurers(coordinator)
        self._wait_for_team()

    def ctrl(self) -> CtrlClient:
        """A new connection to the coordinator. Raises NetworkError, LocalError."""
        assert self._access is not None, "start() comes first"
        return CtrlClient(self._access)

    @contextmanager
    def background(self, relay: RunningRelay, mbps: float, seconds: int) -> Iterator[None]:
        """Background traffic of `mbps` through `relay`, as far as the relay lets it through."""
        info = self._known[relay.fingerprint]
        assert info.ed25519 is not None
        assert info.ntor_key is not None
        options = {
            "--relay": str(relay.address),
            "--ed25519": info.ed25519.hex(),
            "--ntor": info.ntor_key.hex(),
            "--fingerprint": relay.fingerprint,
            "--mbps": f"{mbps:g}",
            "--seconds": str(seconds),
        }
        argv = module_command("flashflow.testnet.background", *_words(options))
        child = self._child(f"background-{relay.nickname}", argv)
        try:
            yield
        finally:
            stop_all([child], 1.0)
            self.children.remove(child)

    def dead(self) -> list[Child]:
        """The processes that ended though nobody asked them to."""
        return [child for child in self.children if not child.alive]

    def child(self, name: str) -> Child:
        """The process called `name`."""
        return next(child for child in self.children if child.name == name)

    def _child(self, name: str, argv: Sequence[str]) -> Child:
        child = Child(name, argv, self._logs)
        self.children.append(child)
        return child

    def _make_keys(self) -> None:
        now = datetime.now(UTC)
        coord = self.folder / "coord" / "keys"
        keygen(coord / "coord.pem", "coord", now)
        for name in MEASURERS:
            keys = self.folder / name / "keys"
            keygen(keys / "measurer.pem", name, now)
            export_certificate(keys / "measurer.pem", coord / f"{name}.cert.pem")
            export_certificate(coord / "coord.pem", keys / "coord.pem")

    def _start_relays(self) -> None:
        started = [
            self._start_relay(f"relay{n}", rate) for n, rate in enumerate(self.plan.rates_mbps, start=1)
        ]
        for child, rate in zip(started, self.plan.rates_mbps, strict=True):
            words = child.wait_ready()
            if len(words) != 2:
                raise ChildFailedError(
                    f"{child.name}: ready line {words!r} (expected address and fingerprint)", child
                )
            counts = self.folder / child.name / COUNTS_FILE
            address, fingerprint = parse_address(words[0]), parse_fingerprint(words[1])
            self.relays.append(RunningRelay(child.name, fingerprint, address, rate, counts, child))

    def _start_relay(self, name: str, rate_mbps: float) -> Child:
        options = {
            "--rate-mbps": f"{rate_mbps:g}",
            "--coordinator": str(self.folder / MEASURERS[0] / "keys" / "coord.pem"),
            "--background-ratio": f"{BACKGROUND_RATIO:g}",
            "--max-duration-s": str(WARMUP_S + self.plan.duration_s),
        }
        flags = ["--loop"] if self.plan.background_percent else []
        spec = RelaySpec(
            self.folder / name,
            name,
            (Address(self.plan.host, 0),),
            (*_words(options), *flags),
            tuple(self._commands.get(name, self._relay_command)),
        )
        return self._child(name, spec.argv())

    def _write_network(self) -> None:
        descriptors = [(self.folder / relay.nickname / DESCRIPTOR_FILE).read_text() for relay in self.relays]
        net = self.folder / "net"
        (net / "descriptors").write_text("".join(descriptors))
        weights = {relay.fingerprint: 1 for relay in self.relays}
        (net / "consensus").write_text(assemble(descriptors, weights, datetime.now(UTC)))
        rules = "".join(f"allow {relay.fingerprint} mode=echo\n" for relay in self.relays)
        (net / "relay_filter").write_text(rules)
        known = asyncio.run(load_relays(net / "consensus", net / "descriptors"))
        self._known = {info.fingerprint: info for info in known}

    def _start_coordinator(self) -> Address:
        config = self.folder / "coord" / "coord.conf"
        config.write_text(
            f"""[coord]
datadir = .
listen_addr = {Address(self.plan.host, 0)}
ctrl_addr = {Address(self.plan.host, 0)}
[meas_params]
meas_duration = {self.plan.duration_s}
warmup = {WARMUP_S}
bg_percent = {BACKGROUND_RATIO}
slot = {RARE_SLOT_S}
period = {RARE_SLOT_S}
[directory]
source = file
consensus = ../net/consensus
descriptors = ../net/descriptors
[relay_filter]
file = ../net/relay_filter
"""
        )
        child = self._child("coordinator", own_command("coord", "--config", str(config)))
        words = dict(word.split("=", 1) for word in child.wait_ready() if "=" in word)
        if not {"measurers", "ctrl"} <= words.keys():
            raise ChildFailedError(
                f"coordinator: ready line {words!r} (expected measurers= and ctrl=)", child
            )
        self._access = Access(parse_address(words["ctrl"]), config.parent / "control_auth_cookie")
        return parse_address(words["measurers"])

    def _start_measurers(self, coordinator: Address) -> None:
        workers = max(1, (os.cpu_count() or 1) // (2 * len(MEASURERS)))
        network = f"{self.plan.host}/{128 if ':' in self.plan.host else 32}"
        for name in MEASURERS:
            config = self.folder / name / "measurer.conf"
            config.write_text(
                f"""[measurer]
datadir = .
coord_addr = {coordinator}
max_rate = {self.plan.measurer_mbps}
allowed_networks = {network}
workers = {workers}
"""
            )
            self._child(name, own_command("measurer", "--config", str(config)))

    def _wait_for_team(self) -> None:
        for name in MEASURERS:
            self.child(name).wait_ready()
        deadline = time.monotonic() + TEAM_READY_S
        with self.ctrl() as client:
            while time.monotonic() < deadline:
                status = client.request("status")
                if status.get("state") == "ready" and status.get("measurers") == len(MEASURERS):
                    return
                if dead := self.dead():
                    raise ChildFailedError(f"{dead[0].name} ended with status {dead[0].returncode}", dead[0])
                time.sleep(POLL_S)
        raise LocalError(f"the coordinator was not ready within {TEAM_READY_S:g} s: its status is {status}")


def _words(options: Mapping[str, str]) -> list[str]:
    return [word for pair in options.items() for word in pair]
