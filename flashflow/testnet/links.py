"""Links of a known rate: two fresh network namespaces, a veth pair between them, `tc tbf` on both ends.

What shapes and counts here is the kernel; neither tor nor FlashFlow knows of it. The namespaces have no names: a process
of ours holds each until its stdin ends, so that nothing is left behind even of a run that is killed. Segmentation and
checksum offloads are off, so that the interfaces count packets as an Ethernet would carry them (docs/links.md).

    with ShapedLink(mbps=50) as link:
        subprocess.Popen([*link.relay_exec, "tor", ...])         # a process at the relay's end
        subprocess.Popen([*link.team_exec, "flashflow", ...])    # one at the team's end
        with link.inside_team():                                 # this very thread, at the team's end
            socket.create_connection((link.relay_host, 9001))
"""

import ctypes
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from flashflow.model.errors import LocalError
from flashflow.model.units import from_mbps
from flashflow.shell.parent import child_environment

TEAM_HOST = "198.18.0.1"
"""Addresses for tests of network devices (RFC 2544); every link has the same, in namespaces of its own."""
RELAY_HOST = "198.18.0.2"
PREFIX_LENGTH = 30
TEAM_DEVICE = "team0"
RELAY_DEVICE = "relay0"
PROGRAMS = ("ip", "tc", "ethtool", "unshare", "nsenter")
"""Debian: packages iproute2, ethtool, util-linux."""
QUEUE_S = 0.05
"""What a shaper keeps waiting before it drops packets, seconds of its rate."""
BURST_S = 0.005
"""What a shaper lets through at once after a pause, seconds of its rate."""
LEAST_BURST_BYTES = 4 * 1514
COMMAND_S = 10.0
_PATH_DEVICES = ("path0", "path1")
_CLONE_NEWNET = 0x40000000
_OFFLOADS = ("rx", "tx", "tso", "gso", "gro")


def why_not() -> str | None:
    """Why no link can be made here; None if one can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: iproute2, ethtool, util-linux)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        _run("unshare", "--net", "true")
    except LocalError as error:
        return error.reason
    return None


class ShapedLink:
    """A link of `mbps` each way, as Ethernet frames without check sequence; a context manager makes and removes it."""

    def __init__(self, mbps: float, delay_s: float = 0.0) -> None:
        self.mbps = mbps
        """The rate of both directions."""
        self.delay_s = delay_s
        """What each direction takes longer, so half of the round trip; above 0 a process of ours delays the frames."""
        self.team_host = TEAM_HOST
        """The address of coordinator and measurers."""
        self.relay_host = RELAY_HOST
        """The address of the relay."""
        self._keepers: list[subprocess.Popen[bytes]] = []
        self._delayer: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def team_exec(self) -> list[str]:
        """What a command line begins with to run at the team's end."""
        return _inside(self._keepers[0].pid)

    @property
    def relay_exec(self) -> list[str]:
        """What a command line begins with to run at the relay's end."""
        return _inside(self._keepers[1].pid)

    def recorder_command(self, path: Path) -> list[str]:
        """The command line that records into `path` what passes the relay's interface (`linkcount`)."""
        return [
            *self.relay_exec,
            *(sys.executable, "-m", "flashflow.testnet.linkcount", RELAY_DEVICE, str(path)),
        ]

    @contextmanager
    def inside_team(self) -> Iterator[None]:
        """This thread is at the team's end meanwhile: the sockets that it opens, and the processes that it starts."""
        with open("/proc/thread-self/ns/net", "rb") as home:
            _enter(Path(f"/proc/{self._keepers[0].pid}/ns/net"))
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def change(self, mbps: float) -> None:
        """Give both directions another rate; what waits to be sent is dropped. Raises LocalError.

        Made anew: a tbf whose rate is changed while packets wait in it may never send again.
        """
        self.mbps = mbps
        for prefix, device in ((self.team_exec, TEAM_DEVICE), (self.relay_exec, RELAY_DEVICE)):
            _run(*prefix, "tc", "qdisc", "del", "dev", device, "root")
            _shape(prefix, device, mbps)

    def close(self) -> None:
        """Remove it; what still runs at its ends keeps them alive until it ends."""
        if self._delayer is not None:
            _end(self._delayer)
            self._delayer = None
        for keeper in self._keepers:
            _end(keeper)
        self._keepers.clear()

    def _make(self) -> None:
        for _ in range(3 if self.delay_s else 2):
            self._keepers.append(_hold_namespace())
        team, relay, *path = (keeper.pid for keeper in self._keepers)
        if path:
            _join(path[0], _PATH_DEVICES[0], team, TEAM_DEVICE)
            _join(path[0], _PATH_DEVICES[1], relay, RELAY_DEVICE)
            for device in _PATH_DEVICES:
                _plug(_inside(path[0]), device)
            self._delayer = _delay(_inside(path[0]), self.delay_s)
        else:
            _join(team, TEAM_DEVICE, relay, RELAY_DEVICE)
        for prefix, device, host in (
            (self.team_exec, TEAM_DEVICE, self.team_host),
            (self.relay_exec, RELAY_DEVICE, self.relay_host),
        ):
            _run(*prefix, "ip", "link", "set", "lo", "up")
            _run(*prefix, "ip", "address", "add", f"{host}/{PREFIX_LENGTH}", "dev", device)
            _plug(prefix, device)
            _shape(prefix, device, self.mbps)


def _hold_namespace() -> "subprocess.Popen[bytes]":
    """A process in a network namespace of its own; both end with its stdin, which only this process can write to."""
    return _start(["unshare", "--net", "sh", "-c", "echo ready; exec cat"])


def _delay(prefix: Sequence[str], delay_s: float) -> "subprocess.Popen[bytes]":
    """A process that passes frames on between the path's devices."""
    own = (sys.executable, "-m", "flashflow.testnet.delay", *_PATH_DEVICES, f"{delay_s:g}")
    return _start([*prefix, *own])


def _start(argv: Sequence[str]) -> "subprocess.Popen[bytes]":
    """A process that says `ready`, and ends at the latest when this one ends. Raises LocalError."""
    try:
        found = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise LocalError(f"{argv[0]}: cannot be run: {error.strerror}") from None
    assert found.stdout is not None
    if found.stdout.readline() != b"ready\n":
        _, said = found.communicate()
        raise LocalError(f"{' '.join(argv)}: {said.decode(errors='replace').strip()}")
    return found


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.communicate()


def _join(pid: int, device: str, other_pid: int, other_device: str) -> None:
    """A veth pair from one process' namespace to another's."""
    link = ("ip", "link", "add", device, "type", "veth")
    _run(*_inside(pid), *link, *("peer", "name", other_device, "netns", str(other_pid)))


def _plug(prefix: Sequence[str], device: str) -> None:
    """A device up, with its offloads off, and with no traffic of its own."""
    _run(*prefix, "ethtool", "-K", device, *(word for name in _OFFLOADS for word in (name, "off")))
    _run(*prefix, "ip", "link", "set", device, "addrgenmode", "none")
    _run(*prefix, "ip", "link", "set", device, "up")


def _shape(prefix: Sequence[str], device: str, mbps: float) -> None:
    """What leaves by `device` has this rate from now on."""
    burst_bytes = max(LEAST_BURST_BYTES, math.ceil(BURST_S * from_mbps(mbps)))
    _run(
        *(*prefix, "tc", "qdisc", "add", "dev", device, "root", "tbf"),
        *("rate", f"{from_mbps(mbps) * 8}bit", "burst", str(burst_bytes), "latency", f"{QUEUE_S * 1000:g}ms"),
    )


def _enter(path: Path) -> None:
    with path.open("rb") as there:
        _set_namespace(there.fileno())


def _set_namespace(descriptor: int) -> None:
    """os.setns, which Python has from 3.12 on."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
        raise LocalError(f"cannot enter a network namespace: {os.strerror(ctypes.get_errno())}")


def _inside(pid: int) -> list[str]:
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def _run(*argv: str) -> None:
    """Raises LocalError."""
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=COMMAND_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(f"{' '.join(argv)}: {error}") from None
    if done.returncode != 0:
        raise LocalError(f"{' '.join(argv)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
