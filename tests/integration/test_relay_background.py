"""Background traffic through a relay: returned, limited, and capped and reported while it is measured."""

import json
import os
import ssl
import subprocess
import sys
import threading
import time
from hashlib import sha256
from itertools import pairwise

import pytest

from flashflow.model.ids import Address
from flashflow.orlink.keys import make_link_certificate
from flashflow.orlink.meas import MeasBg, MeasParamsOk
from flashflow.testnet.counts import read_counts
from flashflow.testnet.relays import RelayProcess, RelaySpec
from support.mini_client import MiniClient, params

TOKEN = b"t" * 16
RATE_MBPS = 16
RATE_BYTES = RATE_MBPS * 125_000
RATIO = 0.25


def background(relay: RelayProcess, mbps: float, seconds: float) -> subprocess.Popen[str]:
    keys = relay.keys
    options = {
        "--relay": str(relay.address),
        "--fingerprint": relay.fingerprint,
        "--ed25519": keys.identity.ed25519.hex(),
        "--ntor": keys.ntor_public.hex(),
        "--mbps": str(mbps),
        "--seconds": str(seconds),
    }
    argv = [sys.executable, "-m", "flashflow.testnet.background"]
    words = [word for pair in options.items() for word in pair]
    return subprocess.Popen([*argv, *words], stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, float]:
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return json.loads(out)


def client(relay: RelayProcess, certificate=None) -> MiniClient:
    keys = relay.keys
    made = MiniClient(relay.address, relay.fingerprint, keys.identity.ed25519, keys.ntor_public, certificate)
    made.create()
    return made


def keep_echoing(made: MiniClient, window: int = 400) -> None:
    payload = os.urandom(509 * window)
    try:
        made.send_run(payload)
        while True:
            made.receive_run(window // 2)
            made.send_run(payload[: 509 * (window // 2)])
    except (ConnectionError, ssl.SSLError):
        return


def wait_for_traffic(relay: RelayProcess) -> None:
    deadline = time.monotonic() + 20
    while not (counts := read_counts(relay.counts)) or counts[-1].written_bytes < 500_000:
        assert time.monotonic() < deadline, relay.log_tail()
        time.sleep(0.02)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_is_sent_comes_back(tmp_path, host) -> None:
    spec = RelaySpec(tmp_path, listen=(Address(host, 0),), options=("--loop",))
    with RelayProcess(spec) as relay:
        relay.wait_ready()
        counted = finish(background(relay, 8, 1.0))
        assert counted["sent_bytes"] > 0
        assert counted["received_bytes"] >= 0.8 * counted["sent_bytes"]
        assert read_counts(relay.counts)[-1].read_bytes > 0


def test_background_is_capped_and_reported_during_a_measurement(tmp_path) -> None:
    now = time.time()
    certificate = make_link_certificate(now - 86_400, now + 86_400)
    trusted = ("--coordinator", sha256(certificate.certificate_der).hexdigest())
    options = ("--loop", "--rate-mbps", str(RATE_MBPS), "--background-ratio", str(RATIO), *trusted)
    with RelayProcess(RelaySpec(tmp_path, options=options)) as relay:
        relay.wait_ready()
        busy = background(relay, 2 * RATE_MBPS, 8.0)
        wait_for_traffic(relay)
        coordinator = client(relay, certificate)
        assert coordinator.start(params(TOKEN, duration_s=3)) == MeasParamsOk()
        made = client(relay)
        made.join(7, TOKEN)
        echoing = threading.Thread(target=keep_echoing, args=(made,))
        echoing.start()
        reports = [coordinator.receive_measurement() for _ in range(3)]
        echoing.join(20)
        busy.terminate()
        busy.communicate(timeout=20)
        counts = read_counts(relay.counts)
    assert [report.second for report in reports if isinstance(report, MeasBg)] == [1, 2, 3]
    for report in reports:
        assert 0 < report.recv_bytes <= RATE_BYTES * RATIO * 1.01
        assert 0 < report.sent_bytes <= RATE_BYTES * RATIO * 1.1
    for before, after in pairwise(counts):
        assert after.read_bytes - before.read_bytes <= RATE_BYTES * (after.utc_s - before.utc_s + 0.03)


def test_a_relay_that_cannot_be_reached_is_one_line(tmp_path) -> None:
    argv = [sys.executable, "-m", "flashflow.testnet.background", "--relay", "127.0.0.1:1", "--mbps", "1"]
    keys = ["--fingerprint", "A" * 40, "--ed25519", "00" * 32, "--ntor", "00" * 32, "--seconds", "0.1"]
    done = subprocess.run([*argv, *keys], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("background: relay 127.0.0.1:1: ")
    assert done.stderr.count("\n") == 1
