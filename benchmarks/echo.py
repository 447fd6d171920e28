"""How much CPU the measurer's echo traffic costs, beside what TLS alone costs.

E: bits echoed each way per CPU-second of torclient's worker processes, sending to a reference relay without a limit.
R: bits of raw TLS 1.3, one way, per CPU-second of the sender, the best of several buffer sizes, on blocking sockets.
Both on this machine in the same run. 2E/R >= 0.6 is asked for; the exit status is 1 if it is missed.

    python -m benchmarks echo
"""

import asyncio
import json
import multiprocessing
import os
import secrets
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)  # for the processes it starts

import psutil  # noqa: E402

from flashflow.keys.certificates import export_certificate, keygen  # noqa: E402
from flashflow.model.ids import MeasId  # noqa: E402
from flashflow.shell.parent import child_environment, own_command  # noqa: E402
from flashflow.shell.tordriver import TorDriver  # noqa: E402
from flashflow.testnet.relays import RelayProcess, RelaySpec  # noqa: E402
from flashflow.torctl.commands import CoordStart, MeasrStart, MeasurerToken, Target  # noqa: E402
from flashflow.torctl.events import BwReport, CircEvent, MeasEnd, ParamsOk  # noqa: E402

ASKED_RATIO = 0.6
BUFFER_BYTES = (16 << 10, 64 << 10, 256 << 10, 1 << 20)
CIRCUITS = 8
WARMUP_S = 2


def raw_tls(key: Path, seconds: float) -> dict[str, float]:
    """Bits per CPU-second of a process that only sends, by buffer size."""
    found = {}
    for size in BUFFER_BYTES:
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            listener = socket.create_server(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            listener.close()
            sink = pool.apply_async(_sink, (key, port))
            found[str(size)] = pool.apply(_source, (port, size, seconds))
            sink.get(10)
    return found


def _sink(key: Path, port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(key)
    buffer = bytearray(1 << 20)
    with socket.create_server(("127.0.0.1", port)) as listener:
        conn, _ = listener.accept()
        with context.wrap_socket(conn, server_side=True) as tls:
            while tls.recv_into(buffer):
                pass


def _source(port: int, size: int, seconds: float) -> float:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    data = secrets.token_bytes(size)
    with context.wrap_socket(_connect(port)) as tls:
        end_s, start_cpu_s, sent = time.monotonic() + seconds, time.process_time(), 0
        while time.monotonic() < end_s:
            sent += tls.send(data)
        return sent * 8 / (time.process_time() - start_cpu_s)


def _connect(port: int) -> socket.socket:
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise SystemExit("the sink did not start")


@dataclass(slots=True)
class Session:
    """One torclient that plays both parts of a measurement."""

    driver: TorDriver
    events: "asyncio.Queue[Any]"

    async def until(self, wanted: Callable[[Any], bool]) -> Any:
        """The next event that is wanted. SystemExit if the measurement fails before."""
        while True:
            event = await asyncio.wait_for(self.events.get(), 30)
            if isinstance(event, MeasEnd) and not event.success:
                raise SystemExit(f"measurement failed: {event.reason}")
            if wanted(event):
                return event

    async def say(self, line: str) -> None:
        """Gives a command that must work."""
        reply = await self.driver.command(line)
        if not reply.ok:
            raise SystemExit(f"{line.split()[0]}: {reply.code} {reply.text}")


async def echo(folder: Path, relay: RelayProcess, seconds: int) -> dict[str, float]:
    """Bits echoed each way per CPU-second of the workers, and per second."""
    events: asyncio.Queue[Any] = asyncio.Queue()
    driver = TorDriver(
        control_socket=folder / "client" / "control",
        on_event=events.put_nowait,
        on_lost=lambda reason: events.put_nowait(MeasEnd(1, success=False, reason=reason)),
    )
    argv = own_command("torclient", "--data-dir", str(folder / "client"), "--workers", "1")
    await driver.start([*argv, "--tls-key", str(folder / "coord.pem")], child_environment())
    try:
        return await _measure(Session(driver, events), relay, seconds)
    finally:
        await driver.close()


async def _measure(session: Session, relay: RelayProcess, seconds: int) -> dict[str, float]:
    worker = _worker_process()
    token, meas_id = secrets.token_bytes(16), MeasId(1)
    target = Target(relay.address, relay.keys.identity.ed25519 or b"", relay.keys.ntor_public)
    told_s = seconds + WARMUP_S
    measurers = (MeasurerToken(token, "127.0.0.1", CIRCUITS),)
    await session.say(CoordStart(meas_id, relay.fingerprint, told_s, target, measurers).line())
    await session.until(lambda event: isinstance(event, ParamsOk))
    start = MeasrStart(
        meas_id, relay.fingerprint, CIRCUITS, seconds, warmup_s=WARMUP_S, token=token, target=target
    )
    await session.say(start.line())
    for _ in range(CIRCUITS):
        await session.until(lambda event: isinstance(event, CircEvent) and event.status == "BUILT")
    await session.say(CoordStart(meas_id, relay.fingerprint, told_s).line())
    await session.say(MeasrStart(meas_id, relay.fingerprint, CIRCUITS, seconds).line())
    return await _count(session, worker, seconds)


async def _count(session: Session, worker: psutil.Process, seconds: int) -> dict[str, float]:
    """From the end of second 1 to the end of the last but one, which is when nothing else happens."""
    measured: list[BwReport] = []
    start_cpu_s = end_cpu_s = 0.0
    while len(measured) < seconds - 1:
        report = await session.until(lambda event: isinstance(event, BwReport) and event.recv_bytes > 0)
        end_cpu_s = sum(worker.cpu_times()[:2])
        start_cpu_s = start_cpu_s or end_cpu_s
        measured.append(report)
    bits = 8 * sum(report.recv_bytes for report in measured[1:])
    return {"per_cpu_s": bits / (end_cpu_s - start_cpu_s), "per_s": bits / (len(measured) - 1)}


def _worker_process() -> psutil.Process:
    children = psutil.Process().children(recursive=True)
    [worker] = [child for child in children if "flashflow.torclient.workers" in child.cmdline()]
    return worker


def run(seconds: int) -> dict[str, Any]:
    """Both figures and their ratio."""
    with tempfile.TemporaryDirectory(prefix="flashflow-bench-") as name:
        folder = Path(name)
        keygen(folder / "coord.pem", "coord", datetime.now(UTC))
        export_certificate(folder / "coord.pem", folder / "coord.cert.pem")
        before = raw_tls(folder / "coord.pem", 1.5)
        options = ("--coordinator", str(folder / "coord.cert.pem"))
        with RelayProcess(RelaySpec(folder / "relay", options=options)) as relay:
            echoed = asyncio.run(echo(folder, relay.wait_ready(), seconds))
        after = raw_tls(folder / "coord.pem", 1.5)
    raw = {size: (before[size] + after[size]) / 2 for size in before}
    best = max(raw.values())
    return {
        "cpus": os.cpu_count(),
        "load_1min": os.getloadavg()[0],
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "openssl": ssl.OPENSSL_VERSION,
        "seconds": seconds,
        "circuits": CIRCUITS,
        "echo_bits_per_cpu_s": round(echoed["per_cpu_s"]),
        "echo_bits_per_s": round(echoed["per_s"]),
        "raw_tls_bits_per_cpu_s": {size: round(bits) for size, bits in raw.items()},
        "ratio_2e_r": round(2 * echoed["per_cpu_s"] / best, 3),
        "asked_ratio": ASKED_RATIO,
    }


def measure() -> tuple[dict[str, Any], list[str]]:
    """The figures, and the limits missed."""
    figures = run(6)
    ratio = figures["ratio_2e_r"]
    return figures, [] if ratio >= ASKED_RATIO else [f"2E/R {ratio}, {ASKED_RATIO} asked"]


if __name__ == "__main__":
    found, missed = measure()
    print(json.dumps(found, indent=2))
    sys.exit(1 if missed else 0)
