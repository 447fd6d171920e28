"""Hosts that fail under a deployment: a small disk, a clock that is off, a link that drops its packets."""

import contextlib
import errno
import subprocess
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from flashflow.ctrl.client import CtrlClient
from flashflow.demo.child import Child
from flashflow.demo.team import TeamSettings
from flashflow.model.ids import Address
from flashflow.testnet.links import RELAY_DEVICE, TEAM_DEVICE, ShapedLink
from support.fault_stack import Event, FaultStack

DISK_BYTES = 4 << 20
FILLER_BLOCK_BYTES = 4096
REFRESH_S = 3
LINK_MBPS = 1000.0
"""More than the relays do."""
FAR_MEASURER = "measurer1"
NOBODY, NOBODYS_INTERFACE = "10.77.16.9", "02:00:00:00:00:99"
"""A next hop that is not there: what is sent to it crosses the link, and is dropped at the other end."""
LOST_TABLE = "99"
HOUR_S = 3600


class SmallDisk:
    """A file system of its own at a folder: it can be really full, and read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        folder.mkdir(mode=0o700, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(folder))

    def fill(self) -> None:
        """Until the kernel has no block left."""
        with self._filler.open("wb", buffering=0) as filler:
            while True:
                try:
                    filler.write(bytes(FILLER_BLOCK_BYTES))
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        return
                    raise

    def empty(self) -> None:
        self._filler.unlink(missing_ok=True)

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        try:
            self.fill()
            yield
        finally:
            self.empty()

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Only while nobody writes to it: the kernel would refuse."""
        run("mount", "-o", "remount,ro", str(self.folder))
        try:
            yield
        finally:
            run("mount", "-o", "remount,rw", str(self.folder))

    def close(self) -> None:
        """Removed at once, though somebody may still have a file of it open."""
        run("umount", "--lazy", str(self.folder))


class HostStack(FaultStack):
    """The coordinator's results are on a small disk; any process may have a clock that is off."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.disk: SmallDisk | None = None
        self._clocks_s: dict[str, int] = {}
        self._offsets_s: dict[int, int] = {}
        """How far off the coordinator was when a measurement ended."""

    def __exit__(self, *exc: Any) -> None:
        try:
            super().__exit__(*exc)
        finally:
            if self.disk is not None:
                self.disk.close()

    def make_folders(self, *more: str) -> None:
        super().make_folders(*more)
        self.disk = SmallDisk(self.database.parent)

    def settings(self) -> TeamSettings:
        """With a directory that is read again every few seconds."""
        settings = super().settings()
        directory = settings.directory.replace("[directory]\n", f"[directory]\nrefresh = {REFRESH_S}\n")
        return TeamSettings(
            settings.host, settings.networks, settings.duration_s, settings.measurer_mbps, directory
        )

    def set_clock(self, name: str, offset_s: int) -> None:
        """For the processes of that name that are started from now on, and for all that those start."""
        self._clocks_s[name] = offset_s

    def clock_of(self, name: str) -> int:
        """How far off its clock is to the nearest hour: what its last line says, beside when that was written."""
        path = self.folder / "logs" / f"{name}.log"
        said = datetime.strptime(self.log(name).splitlines()[-1][:19], "%Y-%m-%d %H:%M:%S").astimezone()
        return round((said.timestamp() - path.stat().st_mtime) / HOUR_S) * HOUR_S

    def stop_coordinator(self) -> None:
        coordinator = self.child("coordinator")
        coordinator.terminate()
        assert coordinator.wait(10)

    def start_child(self, name: str, argv: Any) -> Child:
        return super().start_child(name, [*clock_prefix(self._clocks_s.get(name, 0)), *argv])

    def end_of(self, events: Iterator[Event]) -> Event:
        done = super().end_of(events)
        self._offsets_s[done["meas_id"]] = self._clocks_s.get("coordinator", 0)
        return done

    def _of_result(self, row: dict[str, Any]) -> list[str]:
        """The relays' counts go by true time: the coordinator's times are put right first."""
        offset_s = self._offsets_s.get(row["meas_id"], 0)
        if row["active_utc_s"] is None:
            return super()._of_result(row)
        return super()._of_result({**row, "active_utc_s": row["active_utc_s"] - offset_s})

    def v3bw_files(self) -> dict[str, str]:
        """Those published, and the link to the newest, by name."""
        return {path.name: path.read_text() for path in self.database.parent.iterdir() if "v3bw" in path.name}

    def log(self, name: str = "coordinator") -> str:
        """What that process logged since it was started."""
        return (self.folder / "logs" / f"{name}.log").read_text("utf-8", "replace")


def clock_prefix(offset_s: int) -> list[str]:
    """What a command line begins with for a clock that is off. Durations stay true: only the time of day is.

    datefudge, since libfaketime holds locks of its own: a process with threads that forks hangs in it now and then.
    """
    return ["datefudge", "now", "env", f"DATEFUDGE={-offset_s}"] if offset_s else []


class FarStack(FaultStack):
    """The first measurer is on another host: a network namespace of its own, at the other end of a link."""

    def __init__(self, folder: Path, link: ShapedLink) -> None:
        super().__init__(folder, host=link.team_host)
        self._link = link
        self._coordinator: Address | None = None

    def ctrl(self) -> CtrlClient:
        with self._link.inside_team():
            return super().ctrl()

    def way_to(self, coordinator: Address, measurer: str) -> Address:
        """Without a proxy."""
        self._coordinator = coordinator
        return coordinator

    def start_child(self, name: str, argv: Any) -> Child:
        prefix = self._link.relay_exec if name == FAR_MEASURER else self._link.team_exec
        return super().start_child(name, [*prefix, *argv])

    @contextlib.contextmanager
    def dropping(self) -> Iterator[None]:
        """Every packet between coordinator and measurer goes to nobody, and nobody is told; relays are still reached."""
        assert self._coordinator is not None
        port = str(self._coordinator.port)
        near, far = self._link.team_exec, self._link.relay_exec
        with (
            _lost(near, TEAM_DEVICE, self._link.relay_host, "sport", port),
            _lost(far, RELAY_DEVICE, self._link.team_host, "dport", port),
        ):
            yield


@contextlib.contextmanager
def _lost(prefix: Sequence[str], device: str, host: str, *ports: str) -> Iterator[None]:
    """What leaves for that host and port by `device` is addressed to an interface that does not exist."""
    ip = (*prefix, "ip")
    table = ("table", LOST_TABLE)
    run(*ip, "neigh", "replace", NOBODY, "lladdr", NOBODYS_INTERFACE, "nud", "permanent", "dev", device)
    run(*ip, "route", "replace", f"{host}/32", "via", NOBODY, "dev", device, "onlink", *table)
    run(*ip, "rule", "add", "pref", LOST_TABLE, "to", host, "ipproto", "tcp", *ports, *table)
    try:
        yield
    finally:
        run(*ip, "rule", "del", "pref", LOST_TABLE)


def run(*argv: str) -> str:
    """Its output; fails the test with what it said."""
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}"
    return done.stdout
