"""Reference relays as processes, each with its own folder and log."""

import selectors
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from flashflow.model.errors import LocalError
from flashflow.model.ids import Address, Fingerprint, parse_address, parse_fingerprint
from flashflow.orlink.keys import RelayKeys
from flashflow.relay.identity import DESCRIPTOR_FILE, KEYS_FILE
from flashflow.shell.parent import child_environment, own_command

READY_S = 30.0
STOP_S = 5.0
LOG_FILE = "relay.log"
COUNTS_FILE = "counts"


@dataclass(frozen=True, slots=True)
class RelaySpec:
    """How a relay is started."""

    data_dir: Path
    """Its folder, made if missing."""
    nickname: str = "relay"
    """Its nickname."""
    listen: tuple[Address, ...] = (Address("127.0.0.1", 0),)
    """Where it listens."""
    options: tuple[str, ...] = ()
    """Further options of `flashflow relay`."""
    command: tuple[str, ...] = field(default_factory=lambda: tuple(own_command("relay")))
    """The command that the options are given to: a relay that cheats has another one."""

    def argv(self) -> list[str]:
        """The command line. Counts go to `counts` in the folder."""
        listen = [word for address in self.listen for word in ("--listen", str(address))]
        own = ["--data-dir", str(self.data_dir), "--nickname", self.nickname, *listen]
        return [*self.command, *own, "--counts", str(self.data_dir / COUNTS_FILE), *self.options]


class RelayProcess:
    """One relay. Start several first, then wait for each; as a context manager it ends the process."""

    def __init__(self, spec: RelaySpec) -> None:
        """Starts the process, from the main thread. LocalError if that fails."""
        self.spec = spec
        self.log = spec.data_dir / LOG_FILE
        self.counts = spec.data_dir / COUNTS_FILE
        self.addresses: tuple[Address, ...] = ()
        self.fingerprint = Fingerprint("")
        try:
            spec.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    spec.argv(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=child_environment(),
                )
        except OSError as exc:
            raise LocalError(f"relay {spec.nickname}: cannot be started: {exc}") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def address(self) -> Address:
        """Its first address."""
        return self.addresses[0]

    @property
    def descriptor(self) -> str:
        """The descriptor that it published."""
        return (self.spec.data_dir / DESCRIPTOR_FILE).read_text(encoding="utf-8")

    @property
    def keys(self) -> RelayKeys:
        """Its keys, for whoever must know the public ones."""
        return RelayKeys.from_json((self.spec.data_dir / KEYS_FILE).read_text(encoding="utf-8"))

    def wait_ready(self, timeout_s: float = READY_S) -> Self:
        """Waits for the ready line. LocalError, with the end of the log, if it does not come."""
        words = self._first_line(timeout_s).split()
        if len(words) != 3 or words[0] != "ready":
            raise LocalError(f"relay {self.spec.nickname}: did not start: {self.log_tail()}")
        self.addresses = tuple(parse_address(text) for text in words[1].split(","))
        self.fingerprint = parse_fingerprint(words[2])
        return self

    def log_tail(self, lines: int = 5) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Waits for the process to end by itself: its exit status. LocalError if it does not."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as exc:
            raise LocalError(f"relay {self.spec.nickname}: still runs after {timeout_s:g} s") from exc

    def stop(self, timeout_s: float = STOP_S) -> int:
        """Ends the process, by force if it takes longer than that; gives its exit status."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return self._process.wait()

    def _first_line(self, timeout_s: float) -> str:
        assert self._process.stdout is not None
        deadline_s = time.monotonic() + timeout_s
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n") and selector.select(max(0.0, deadline_s - time.monotonic())):
                piece = self._process.stdout.read1(4096)  # type: ignore[attr-defined]
                if not piece:
                    break
                line += piece
        return line.decode(errors="replace")


def module_command(module: str, *args: str) -> tuple[str, ...]:
    """The command that runs a module of this installation."""
    return (sys.executable, "-m", module, *args)
