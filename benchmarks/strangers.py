"""Strangers at the coordinator's door: the load of benchmarks/coordinator.py, and 500 ClientHellos a second meanwhile.

They are a process of their own. Half of them come from the measurers' own address, the others from a new one of 127/8
each. Those that get an answer say nothing more, which is what keeps a handshake open longest.
"""

import contextlib
import json
import random
import selectors
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator

from benchmarks import coordinator
from flashflow.shell.acceptor import AcceptLimits
from flashflow.shell.parent import child_environment, follow_parent

PER_S = 500
TICK_S = 0.01
OPEN_S = 8.0
"""A stranger leaves after this long, whatever happened."""
LEAST_PER_S = 0.9 * PER_S
"""Fewer than this, and the run shows nothing."""


class Strangers:
    """Connects, says hello, and waits for what comes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._draws = random.Random(1)
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._selector = selectors.DefaultSelector()
        self._open: deque[tuple[float, socket.socket]] = deque()
        self.counts = {"hellos": 0, "answered": 0, "closed": 0, "failed": 0}

    def run(self, stopped: list[int]) -> None:
        """At an even rate, until `stopped` holds something."""
        started_s = time.monotonic()
        due = 0
        while not stopped:
            now_s = time.monotonic()
            while due < (now_s - started_s) * PER_S:
                due += 1
                self._one(now_s)
            self._listen()
            while self._open and self._open[0][0] < now_s - OPEN_S:
                self._leave(self._open.popleft()[1])
        self.counts["seconds"] = round(time.monotonic() - started_s, 2)

    def _one(self, now_s: float) -> None:
        draw = self._draws.randrange
        source = f"127.{draw(1, 255)}.{draw(256)}.{draw(1, 255)}" if draw(2) else "127.0.0.1"
        stranger = socket.socket()
        try:
            stranger.settimeout(0.5)
            stranger.bind((source, 0))
            stranger.connect(("127.0.0.1", self._port))
            stranger.sendall(self._hello())
        except OSError:
            self.counts["failed"] += 1
            stranger.close()
            return
        self.counts["hellos"] += 1
        self._open.append((now_s, stranger))
        self._selector.register(stranger, selectors.EVENT_READ)

    def _hello(self) -> bytes:
        outgoing = ssl.MemoryBIO()
        tls = self._context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="coordinator.example")
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        return outgoing.read()

    def _listen(self) -> None:
        for key, _ in self._selector.select(TICK_S):
            stranger = key.fileobj
            assert isinstance(stranger, socket.socket)
            self._selector.unregister(stranger)
            try:
                answered = bool(stranger.recv(65536))
            except OSError:
                answered = False
            self.counts["answered" if answered else "closed"] += 1
            if not answered:
                stranger.close()

    def _leave(self, stranger: socket.socket) -> None:
        if stranger.fileno() >= 0:
            with contextlib.suppress(KeyError):
                self._selector.unregister(stranger)
            stranger.close()


@contextlib.contextmanager
def flood(port: int, counts: dict[str, float]) -> Iterator[None]:
    """Strangers from here to the end of the block; then `counts` has what became of them."""
    command = [sys.executable, "-m", "benchmarks.strangers", str(port)]
    with subprocess.Popen(command, env=child_environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # they have begun
            yield
        finally:
            process.terminate()
            said = process.communicate(timeout=30)[0]
        counts.update(json.loads(said))


def measure() -> tuple[dict[str, float], list[str]]:
    """The figures, and the limits missed."""
    counts: dict[str, float] = {}
    figures, missed = coordinator.measure(lambda port: flood(port, counts))
    figures["strangers_per_s"] = round(counts["hellos"] / counts["seconds"], 1)
    figures["strangers_answered"] = counts["answered"]
    figures["strangers_closed_unread"] = counts["closed"]
    limits = AcceptLimits()
    most = limits.strangers_burst + limits.strangers_per_s * counts["seconds"] + 1
    if figures["strangers_answered"] > most:
        missed.append(f"strangers_answered {figures['strangers_answered']} > {most:.0f}")
    if figures["strangers_per_s"] < LEAST_PER_S:
        missed.append(f"strangers_per_s {figures['strangers_per_s']} < {LEAST_PER_S}")
    return figures, missed


if __name__ == "__main__":
    follow_parent()
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    print("ready", flush=True)
    strangers = Strangers(int(sys.argv[1]))
    strangers.run(stopped)
    print(json.dumps(strangers.counts))
