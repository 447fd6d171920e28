"""How much a far end loops: bits of cells each way per CPU-second of its process, with circuits mixed on each link.

A client in threads keeps two links full, each with 5 circuits whose cells are mixed at random, as a relay under
measurement sends them. At least 500 Mbit is asked for.

    python benchmarks/far_end.py [--seconds S] [--circuits N]
"""

import argparse
import json
import os
import random
import select
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ["PYTHONPATH"] = str(ROOT)  # for the process it starts

import psutil  # noqa: E402
from OpenSSL import SSL  # noqa: E402

from flashflow.model.ids import parse_address  # noqa: E402
from flashflow.orlink.cells import PAYLOAD_BYTES, Cell, Command, encode_cell  # noqa: E402
from flashflow.relay.identities import write_identities  # noqa: E402
from flashflow.shell.parent import child_environment, own_command  # noqa: E402
from support.far_peer import FarPeer, fingerprint  # noqa: E402
from support.orlink_keys import relay_keys  # noqa: E402

ASKED_BITS = 500e6
LINKS = 2
CIRCUITS = 5
OUTSTANDING_BYTES = 400_000
BUFFER_CELLS = 31
WARMUP_S = 1.0


class Load:
    """Keeps one link full, in a thread of its own."""

    def __init__(self, peer: FarPeer, circuits: int) -> None:
        draw = random.Random(1)
        ids = [0x80000001 + number for number in range(circuits)]
        for circ_id in ids:
            peer.create(circ_id)
        self.received_bytes = 0
        self._tls, self._plain = peer.link
        self._plain.setblocking(False)
        cells = (
            Cell(draw.choice(ids), Command.RELAY, draw.randbytes(PAYLOAD_BYTES)) for _ in range(BUFFER_CELLS)
        )
        self._buffer = b"".join(encode_cell(cell) for cell in cells)
        self._rest = memoryview(b"")
        self._outstanding_bytes = 0
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stop = True
        self._thread.join()

    def _run(self) -> None:
        room = bytearray(16_384)
        while not self._stop:
            self._send()
            try:
                count = self._tls.recv_into(room)
            except SSL.WantReadError:
                writers = [self._plain] if self._outstanding_bytes < OUTSTANDING_BYTES else []
                select.select([self._plain], writers, [], 0.05)
                continue
            self.received_bytes += count
            self._outstanding_bytes -= count

    def _send(self) -> None:
        while self._outstanding_bytes < OUTSTANDING_BYTES:
            self._rest = self._rest or memoryview(self._buffer)
            try:
                count = self._tls.send(self._rest)
            except (SSL.WantWriteError, SSL.WantReadError):
                return
            self._rest = self._rest[count:]
            self._outstanding_bytes += count


def run(seconds: float, circuits: int) -> dict[str, Any]:
    """The figures of one run."""
    keys = [relay_keys(number) for number in range(1, LINKS + 1)]
    with tempfile.TemporaryDirectory(prefix="flashflow-bench-") as name:
        path = Path(name) / "identities"
        write_identities(path, keys)
        options = ("--only-peer", fingerprint(relay_keys(0)), "--listen", "127.0.0.1:0")
        argv = own_command("relay", "--far-end", *options, "--identities", str(path))
        with subprocess.Popen(argv, stdout=subprocess.PIPE, env=child_environment(), text=True) as process:
            assert process.stdout is not None
            listed = json.loads(process.stdout.readline().removeprefix("ready "))
            peers = [
                FarPeer(parse_address(entry["addr"]), key, relay_keys(0))
                for entry, key in zip(listed, keys, strict=True)
            ]
            loads = [Load(peer, circuits) for peer in peers]
            figures = _count(psutil.Process(process.pid), loads, seconds)
            for load in loads:
                load.stop()
            process.terminate()
    return {"links": LINKS, "circuits_per_link": circuits, **figures}


def _count(process: psutil.Process, loads: list[Load], seconds: float) -> dict[str, int]:
    time.sleep(WARMUP_S)
    start_bytes, start_cpu_s = sum(load.received_bytes for load in loads), sum(process.cpu_times()[:2])
    time.sleep(seconds)
    bits = 8 * (sum(load.received_bytes for load in loads) - start_bytes)
    cpu_s = sum(process.cpu_times()[:2]) - start_cpu_s
    return {"loop_bits_per_cpu_s": round(bits / cpu_s), "loop_bits_per_s": round(bits / seconds)}


def measure() -> tuple[dict[str, Any], list[str]]:
    """The figures, and the limits missed."""
    figures = run(5.0, CIRCUITS)
    got = figures["loop_bits_per_cpu_s"]
    return figures, [] if got >= ASKED_BITS else [
        f"{got / 1e6:.0f} Mbit per CPU-second, {ASKED_BITS / 1e6:.0f} asked"
    ]


def main() -> int:
    """Prints the figures as JSON; 1 if the limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--circuits", type=int, default=CIRCUITS)
    options = parser.parse_args()
    figures = run(options.seconds, options.circuits)
    print(json.dumps(figures, indent=2))
    return 0 if figures["loop_bits_per_cpu_s"] >= ASKED_BITS else 1


if __name__ == "__main__":
    sys.exit(main())
