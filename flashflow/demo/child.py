"""One process of a deployment: started, waited for, looked after, ended by its pid."""

import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from flashflow.model.errors import LocalError
from flashflow.shell.parent import child_environment

READY_S = 30.0
"""Longest time from a process' start to its `ready` line."""
POLL_S = 0.02
TAIL_LINES = 15


class Running(Protocol):
    """A process of a deployment."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        ...

    def tail(self) -> str:
        """The last lines of its log."""
        ...


class ChildFailedError(LocalError):
    """A process ended or hung when it should have got ready; its log tells why."""

    def __init__(self, reason: str, child: Running) -> None:
        super().__init__(reason)
        self.child = child


class Child:
    """A running process; stdout goes to LOGS/NAME.out, stderr to LOGS/NAME.log."""

    def __init__(self, name: str, argv: Sequence[str], logs: Path) -> None:
        """Start it, in a session of its own so that a terminal's Ctrl-C reaches only us. Raises LocalError."""
        self.name = name
        self._out = logs / f"{name}.out"
        self._log = logs / f"{name}.log"
        try:
            with self._out.open("wb") as out, self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    env=child_environment(),
                    start_new_session=True,
                )
        except OSError as error:
            raise LocalError(f"cannot start {name} ({argv[0]}): {error.strerror}") from None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    def wait_ready(self, timeout_s: float = READY_S) -> list[str]:
        """The words after `ready` on its first such line. Raises ChildFailedError if it ends or is too slow."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            alive = self.alive  # read before the output: its last words count too
            for line in self._out.read_text("utf-8", "replace").splitlines(keepends=True):
                words = line.split()
                if words[:1] == ["ready"] and line.endswith("\n"):
                    return words[1:]
            if not alive:
                raise ChildFailedError(
                    f"{self.name} ended with status {self.returncode} before it was ready", self
                )
            time.sleep(POLL_S)
        raise ChildFailedError(f"{self.name} was not ready within {timeout_s:g} s", self)

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines that it wrote on stderr."""
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-lines:])

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once; its own children follow by themselves."""
        self._process.kill()

    def wait(self, timeout_s: float) -> bool:
        """Whether it has ended within `timeout_s`."""
        try:
            self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            return False
        return True


def stop_all(children: Iterable[Child], grace_s: float) -> None:
    """End `children`: asked first and given `grace_s` together, then at once."""
    running = [child for child in children if child.alive]
    if grace_s > 0:
        for child in running:
            child.terminate()
        deadline = time.monotonic() + grace_s
        running = [child for child in running if not child.wait(deadline - time.monotonic())]
    for child in running:
        child.kill()
    for child in running:
        child.wait(5.0)
