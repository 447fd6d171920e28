"""One stock tor as a process, with its folder, its log and its control port."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from flashflow.model.errors import LocalError
from flashflow.model.ids import Address, Fingerprint, parse_fingerprint
from flashflow.shell.parent import child_environment
from flashflow.shell.torcontrol import close_controller, open_controller

STOP_S = 5.0
"""Time that a tor has to end by itself."""
POLL_S = 0.05
CONTROL_S = 10.0
"""Longest wait for a tor's control port."""
TAIL_LINES = 15
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where a distribution may put tor, beside the PATH of one who is not root."""

_DEFENCES: Final = re.compile(r"DoS mitigation since startup: (.*)\n")
_COUNT: Final = re.compile(r"(\d+) ([A-Za-z0-9 ]+)")
_T = TypeVar("_T")


class MissingTorError(LocalError):
    """tor is not installed: exit status 69 (EX_UNAVAILABLE of sysexits.h)."""

    exit_status = 69


def find_program(name: str) -> str:
    """The path of `tor` or `tor-gencert`. Raises MissingTorError."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS])
    found = shutil.which(name, path=path)
    if found is None:
        raise MissingTorError(f"{name} is not installed: install tor (Debian: apt-get install tor)")
    return found


def tor_command(torrc: Path) -> list[str]:
    """The command line of a tor that reads `torrc` and no file of the system's."""
    defaults = ["--defaults-torrc", str(torrc.with_name("no-defaults")), "--ignore-missing-torrc"]
    return [find_program("tor"), "-f", str(torrc), *defaults]


def wait_for(what: str, timeout_s: float, look: Callable[[], _T | None], poll_s: float = POLL_S) -> _T:
    """What `look` gives, once it is not None. Raises LocalError after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while (found := look()) is None:
        if time.monotonic() >= deadline_s:
            raise LocalError(f"{what}: not within {timeout_s:g} s")
        time.sleep(poll_s)
    return found


class TorNode:
    """One tor of a network: FOLDER/torrc, FOLDER/data, FOLDER/notice.log. `start` runs it, `stop` ends it by pid."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *or_addresses: Address,
        dir_port: int | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """Makes the folder. Raises LocalError.

        `dir_port` is an authority's, at the same host as the first OR port; `prefix` is what its command line begins
        with.
        """
        self.name: Final = name
        """Its nickname."""
        self.or_addresses: Final = or_addresses
        """Its OR ports, IPv4 first."""
        self.dir_port: Final = dir_port
        self.folder: Final = folder
        self.data: Final = folder / "data"
        self.torrc: Final = folder / "torrc"
        self.log: Final = folder / "notice.log"
        self._prefix: Final = tuple(prefix)
        self._port_file: Final = self.data / "control-port"
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.data.mkdir(mode=0o700, parents=True)
        except OSError as error:
            raise LocalError(f"{folder}: cannot make a tor's folder: {error.strerror}") from None

    @property
    def or_address(self) -> Address:
        """Its first OR port."""
        return self.or_addresses[0]

    @property
    def directory(self) -> Address:
        """An authority's directory port."""
        assert self.dir_port is not None, f"{self.name} is no authority"
        return Address(self.or_address.host, self.dir_port)

    def configure(self, lines: Sequence[str]) -> None:
        """Write its torrc: `lines` and what every node needs. Raises LocalError."""
        own = [
            f"Nickname {self.name}",
            f"DataDirectory {self.data}",
            f"Log notice file {self.log}",
            "ControlPort 127.0.0.1:auto",
            f"ControlPortWriteToFile {self._port_file}",
            "CookieAuthentication 1",
        ]
        try:
            self.torrc.write_text("".join(f"{line}\n" for line in (*own, *lines)))
        except OSError as error:
            raise LocalError(f"{self.torrc}: cannot be written: {error.strerror}") from None

    def start(self) -> None:
        """Run it, from the main thread: it dies with this process. Raises LocalError."""
        self._port_file.unlink(missing_ok=True)
        launch = [
            sys.executable,
            "-m",
            "flashflow.directory.launch",
            *self._prefix,
            *tor_command(self.torrc),
            "--hush",
        ]
        try:
            with (self.folder / "output.log").open("ab") as output:
                self._process = subprocess.Popen(
                    launch,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=child_environment(),
                    start_new_session=True,  # a terminal's Ctrl-C reaches only us
                )
        except OSError as error:
            raise LocalError(f"{self.name}: cannot start tor: {error.strerror}") from None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "start() comes first"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    def fingerprint(self) -> Fingerprint:
        """Its identity, once it has made its keys. Raises LocalError."""
        path = self.data / "fingerprint"
        return wait_for(f"{self.name}: keys", CONTROL_S, lambda: self._look(lambda: _read_fingerprint(path)))

    def forget_keys(self) -> None:
        """Have its next start make other keys, an identity too. It must have ended."""
        shutil.rmtree(self.data / "keys")
        for path in self.data.glob("fingerprint*"):
            path.unlink()

    def reload(self) -> None:
        """Have it read its torrc again, and try again at once what it could not fetch before."""
        os.kill(self.pid, signal.SIGHUP)

    def control(self) -> Address:
        """Where it takes control connections, once it does; the cookie is in its data directory."""
        return wait_for(
            f"{self.name}: control port", CONTROL_S, lambda: self._look(lambda: _read_port(self._port_file))
        )

    def ask(self, command: str) -> str:
        """Send one control command; the answer's text. Raises LocalError if tor refuses it."""
        controller = open_controller(self.control(), wait_s=CONTROL_S, name=self.name)
        try:
            answer = controller.msg(command)
            if not answer.is_ok():
                raise LocalError(f"{self.name}: {command.split()[0]} refused: {answer}")
            return str(answer)
        finally:
            close_controller(controller)

    def defences(self) -> dict[str, int]:
        """How often its defences acted since it started, by tor's own words for it, from a heartbeat in its log.

        Say, `{"circuits rejected": 0, "marked addresses": 0, …}`. Raises LocalError.
        """
        before = len(self.log_text())
        self.ask("SIGNAL HEARTBEAT")
        said = wait_for(
            f"{self.name}: heartbeat", CONTROL_S, lambda: _DEFENCES.search(self.log_text(), before)
        )
        return {what: int(count) for count, what in _COUNT.findall(said[1])}

    def known_consensus(self) -> bool:
        """Whether it has a consensus."""
        return (self.data / "cached-consensus").exists()

    def known_descriptors(self) -> set[str]:
        """Nicknames of the relays whose server descriptors it has."""
        paths = (self.data / name for name in ("cached-descriptors", "cached-descriptors.new"))
        text = "\n".join(path.read_text("ascii", "replace") for path in paths if path.exists())
        return {line.split()[1] for line in text.splitlines() if line.startswith("router ")}

    def log_text(self) -> str:
        """Its log so far."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The end of its log, or what it printed if it did not get so far."""
        text = self.log_text() or (self.folder / "output.log").read_text("utf-8", "replace")
        return "\n".join(text.splitlines()[-lines:])

    def check_alive(self) -> None:
        """Raises LocalError, with the end of its log, if it has ended."""
        if not self.alive:
            raise LocalError(f"{self.name}: tor ended with status {self.returncode}: {self.tail(3)}")

    def _look(self, look: Callable[[], _T | None]) -> _T | None:
        self.check_alive()
        return look()


def stop_nodes(nodes: Sequence[TorNode], grace_s: float = STOP_S) -> None:
    """End these: asked first and given `grace_s` together, then at once."""
    running = [node._process for node in nodes if node._process is not None and node._process.poll() is None]
    if grace_s > 0:
        for process in running:
            process.terminate()
        deadline_s = time.monotonic() + grace_s
        running = [process for process in running if not _ended(process, deadline_s - time.monotonic())]
    for process in running:
        process.kill()
    for process in running:
        process.wait()


def _ended(process: "subprocess.Popen[bytes]", timeout_s: float) -> bool:
    try:
        process.wait(max(0.0, timeout_s))
    except subprocess.TimeoutExpired:
        return False
    return True


def _read_fingerprint(path: Path) -> Fingerprint | None:
    words = path.read_text().split() if path.exists() else []
    return parse_fingerprint(words[1]) if len(words) == 2 else None


def _read_port(path: Path) -> Address | None:
    """tor writes the file in one step: `PORT=127.0.0.1:41234`."""
    if not path.exists():
        return None
    host, _, port = path.read_text().strip().removeprefix("PORT=").rpartition(":")
    return Address(host, int(port))
