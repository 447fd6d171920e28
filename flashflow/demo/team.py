"""A coordinator and two measurers on loopback, each a process of its own.

Layout of the folder: `coord/` and `measurerN/` as `flashflow init` makes them, `logs/` what each process wrote.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from flashflow.ctrl.access import Access
from flashflow.ctrl.client import CtrlClient
from flashflow.demo.child import Child, ChildFailedError, Running, stop_all
from flashflow.demo.plan import BACKGROUND_RATIO, MEASURERS
from flashflow.keys.certificates import export_certificate, keygen
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address, parse_address
from flashflow.shell.parent import own_command

WARMUP_S = 2
LONGEST_SLOT_S = 604_800


def rare_slot_s(now_utc_s: float) -> int:
    """The longest slot, of those that are counted since 1970, in whose middle this is."""
    return int(now_utc_s / (int(now_utc_s / LONGEST_SLOT_S - 0.5) + 1.5))


RARE_SLOT_S = rare_slot_s(time.time())
"""Where all is measured by `ctrl measure`: the next of the coordinator's own slots comes in days."""
TEAM_READY_S = 30.0
END_S = 5.0
"""Time that the processes have to end by themselves after a demo."""
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class TeamSettings:
    """What the team's configuration files say, beside what they always say."""

    host: str
    """The loopback address of its sockets."""
    networks: str
    """Where measurers may send to."""
    duration_s: int
    """Seconds that each measurement counts."""
    measurer_mbps: int
    """Each measurer's capacity."""
    directory: str
    """Sections of coord.conf that tell where relays are known from, and which may be measured."""
    slot_s: int = RARE_SLOT_S
    """Length of a slot."""
    period_s: int = RARE_SLOT_S
    """Length of a period."""


class Team:
    """The processes of one demo; as a context manager it ends them all, whatever happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[Child] = []
        self._logs = folder / "logs"
        self._access: Access | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop_all(self.children, END_S if kind is None else 0.0)

    def ctrl(self) -> CtrlClient:
        """A new connection to the coordinator. Raises NetworkError, LocalError."""
        assert self._access is not None, "start_team() comes first"
        return CtrlClient(self._access)

    def dead(self) -> Sequence[Running]:
        """The processes that ended though nobody asked them to."""
        return [child for child in self.children if not child.alive]

    def child(self, name: str) -> Child:
        """The process called `name`."""
        return next(child for child in self.children if child.name == name)

    def start_child(self, name: str, argv: Sequence[str]) -> Child:
        """Start a process that ends with the demo. Raises LocalError."""
        child = Child(name, argv, self._logs)
        self.children.append(child)
        return child

    def make_folders(self, *more: str) -> None:
        """The folders of the team, its keys, and `more`. Raises LocalError."""
        for name in ("coord/keys", "logs", *(f"{name}/keys" for name in MEASURERS), *more):
            (self.folder / name).mkdir(mode=0o700, parents=True)
        now = datetime.now(UTC)
        coord = self.folder / "coord" / "keys"
        keygen(coord / "coord.pem", "coord", now)
        for name in MEASURERS:
            keys = self.folder / name / "keys"
            keygen(keys / "measurer.pem", name, now)
            export_certificate(keys / "measurer.pem", coord / f"{name}.cert.pem")
            export_certificate(coord / "coord.pem", keys / "coord.pem")

    def start_team(self, settings: TeamSettings) -> None:
        """Start coordinator and measurers; `wait_for_team` waits for them. Raises LocalError."""
        self._start_measurers(settings, self._start_coordinator(settings))

    def wait_for_team(
        self,
        is_ready: Callable[[CtrlClient], bool] = lambda client: True,
        timeout_s: float = TEAM_READY_S,
    ) -> None:
        """Until a measurement could begin and `is_ready`, which may ask the coordinator. Raises LocalError, NetworkError."""
        for name in MEASURERS:
            self.child(name).wait_ready()
        deadline = time.monotonic() + timeout_s
        with self.ctrl() as client:
            while time.monotonic() < deadline:
                status = client.request("status")
                if (
                    status.get("state") == "ready"
                    and status.get("measurers") == len(MEASURERS)
                    and is_ready(client)
                ):
                    return
                if dead := self.dead():
                    raise ChildFailedError(f"{dead[0].name} ended with status {dead[0].returncode}", dead[0])
                time.sleep(POLL_S)
        raise LocalError(f"the coordinator was not ready within {timeout_s:g} s: its status is {status}")

    def _start_coordinator(self, settings: TeamSettings) -> Address:
        config = self.folder / "coord" / "coord.conf"
        config.write_text(
            f"""[coord]
datadir = .
listen_addr = {Address(settings.host, 0)}
ctrl_addr = {Address(settings.host, 0)}
[meas_params]
meas_duration = {settings.duration_s}
warmup = {WARMUP_S}
bg_percent = {BACKGROUND_RATIO}
slot = {settings.slot_s}
period = {settings.period_s}
{settings.directory}"""
        )
        child = self.start_child("coordinator", own_command("coord", "--config", str(config)))
        words = dict(word.split("=", 1) for word in child.wait_ready() if "=" in word)
        if not {"measurers", "ctrl"} <= words.keys():
            raise ChildFailedError(
                f"coordinator: ready line {words!r} (expected measurers= and ctrl=)", child
            )
        self._access = Access(parse_address(words["ctrl"]), config.parent / "control_auth_cookie")
        return parse_address(words["measurers"])

    def way_to(self, coordinator: Address, measurer: str) -> Address:
        """Where a measurer finds the coordinator: the coordinator itself, unless something is put between them."""
        return coordinator

    def _start_measurers(self, settings: TeamSettings, coordinator: Address) -> None:
        workers = max(1, (os.cpu_count() or 1) // (2 * len(MEASURERS)))
        for name in MEASURERS:
            config = self.folder / name / "measurer.conf"
            config.write_text(
                f"""[measurer]
datadir = .
coord_addr = {self.way_to(coordinator, name)}
max_rate = {settings.measurer_mbps}
allowed_networks = {settings.networks}
workers = {workers}
"""
            )
            self.start_child(name, own_command("measurer", "--config", str(config)))
