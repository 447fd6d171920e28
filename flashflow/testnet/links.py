"""Links of a known rate: two fresh network namespaces, a veth pair between them, `tc tbf` on both ends.

What shapes and counts here is the kernel; neither tor nor FlashFlow knows of it. The namespaces have no names: a process
of ours holds each until its stdin ends, so that nothing is left behind even of a run that is killed. Segmentation and
checksum offloads are off, so that the interfaces count packets as an Ethernet would carry them (docs/links.md).

    with ShapedLink(mbps=50) as link:
        subprocess.Popen([*link.relay_exec, "tor", ...])     # a process at the relay's end
        subprocess.Popen([*link.team_exec, "flashflow", ...])
"""

import contextlib
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from flashflow.model.errors import LocalError
from flashflow.model.units import from_mbps
from flashflow.shell.parent import child_environment

TEAM_HOST = "198.18.0.1"
"""Addresses for tests of network devices (RFC 2544); every link has the same, in namespaces of its own."""
RELAY_HOST = "198.18.0.2"
NETWORK = "198.18.0.0/30"
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
END_S = 5.0
_OFFLOADS = ("rx", "tx", "tso", "gso", "gro")


def why_not() -> str | None:
    """Why no link can be made here; None if one can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: iproute2, ethtool, util-linux)"
    if os.geteuid() != 0:
        return "network namespaces need root"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, timeout=COMMAND_S)
    return None if tried.returncode == 0 else f"network namespaces: {tried.stderr.strip()}"


class ShapedLink:
    """A link of `mbps` each way, as Ethernet frames without check sequence; a context manager makes and removes it."""

    def __init__(self, mbps: float) -> None:
        self.mbps = mbps
        """The rate of both directions."""
        self.team_host = TEAM_HOST
        """The address of coordinator and measurers."""
        self.relay_host = RELAY_HOST
        """The address of the relay."""
        self._keepers: list[subprocess.Popen[bytes]] = []

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

    def close(self) -> None:
        """Remove it; what still runs at its ends keeps them alive until it ends."""
        for keeper in self._keepers:
            with contextlib.suppress(OSError):
                assert keeper.stdin is not None
                keeper.stdin.close()
        for keeper in self._keepers:
            try:
                keeper.wait(END_S)
            except subprocess.TimeoutExpired:
                keeper.kill()
                keeper.wait()
            assert keeper.stdout is not None
            keeper.stdout.close()
        self._keepers.clear()

    def _make(self) -> None:
        for _ in range(2):
            self._keepers.append(_hold_namespace())
        relay_pid = self._keepers[1].pid
        _run(
            *(*self.team_exec, "ip", "link", "add", TEAM_DEVICE, "type", "veth"),
            *("peer", "name", RELAY_DEVICE, "netns", str(relay_pid)),
        )
        self._set_up(self.team_exec, TEAM_DEVICE, self.team_host)
        self._set_up(self.relay_exec, RELAY_DEVICE, self.relay_host)

    def _set_up(self, prefix: Sequence[str], device: str, host: str) -> None:
        burst_bytes = max(LEAST_BURST_BYTES, math.ceil(BURST_S * from_mbps(self.mbps)))
        _run(*prefix, "ip", "link", "set", "lo", "up")
        _run(*prefix, "ethtool", "-K", device, *(word for name in _OFFLOADS for word in (name, "off")))
        _run(*prefix, "ip", "link", "set", device, "addrgenmode", "none")
        _run(*prefix, "ip", "address", "add", f"{host}/{NETWORK.partition('/')[2]}", "dev", device)
        _run(*prefix, "ip", "link", "set", device, "up")
        _run(
            *(*prefix, "tc", "qdisc", "add", "dev", device, "root", "tbf"),
            *("rate", f"{from_mbps(self.mbps) * 8}bit", "burst", str(burst_bytes)),
            *("latency", f"{QUEUE_S * 1000:g}ms"),
        )


def _hold_namespace() -> "subprocess.Popen[bytes]":
    """A process in a network namespace of its own; both end with its stdin, which only this process can write to."""
    try:
        keeper = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo ready; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise LocalError(f"cannot run unshare: {error.strerror}") from None
    assert keeper.stdout is not None
    if keeper.stdout.readline() != b"ready\n":
        raise LocalError(f"no network namespace: {why_not() or 'unshare failed'}")
    return keeper


def _inside(pid: int) -> list[str]:
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def _run(*argv: str) -> None:
    """Raises LocalError."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(f"{' '.join(argv)}: {error}") from None
    if done.returncode != 0:
        raise LocalError(f"{' '.join(argv)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
