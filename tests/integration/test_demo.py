"""The demo as it is typed: what it measures, what it writes, and how it fails."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from stem.descriptor.bandwidth_file import BandwidthFile

from flashflow.demo.report import MAX_COUNT_ERROR_PCT
from flashflow.shell.parent import own_command
from support.commands import flashflow
from support.processes import left_of

# One deployment at a time: each measures what this machine can do.
pytestmark = pytest.mark.xdist_group("deployment")

KEYS = {
    "nickname",
    "fingerprint",
    "mode",
    "configured_mbps",
    "allocated_mbps",
    "relay_counted_mbps",
    "measured_mbps",
    "background_mbps",
    "error_pct",
    "machine_limited",
}


def assert_right(made: dict[str, Any], rates: list[float]) -> None:
    """The figures are what the issue promises of them."""
    assert made.keys() == {"relays", "measurers", "duration_s", "v3bw", "elapsed_s"}
    assert [row["configured_mbps"] for row in made["relays"]] == rates
    for row in made["relays"]:
        assert row.keys() == KEYS
        assert abs(row["error_pct"]) <= MAX_COUNT_ERROR_PCT
        assert row["error_pct"] == pytest.approx(
            100 * (row["measured_mbps"] / row["relay_counted_mbps"] - 1), abs=0.02
        )
        assert row["allocated_mbps"] >= 2.25 * row["configured_mbps"]
        if not row["machine_limited"]:
            assert abs(row["measured_mbps"] / row["configured_mbps"] - 1) <= 0.10


def test_every_result_is_what_the_relay_counted_in_two_demos_at_once(tmp_path: Path, temp: Path) -> None:
    common = ["--rates", "10,25", "--duration", "3", "--json"]
    plain = start_demo(temp, tmp_path / "plain", *common)
    busy = start_demo(temp, tmp_path / "busy", *common, "--background", "20", "--host", "::1")
    for demo, out, background in ((plain, tmp_path / "plain", 0.0), (busy, tmp_path / "busy", 0.2)):
        shown, err = demo.communicate(timeout=100)
        assert demo.returncode == 0, err
        made = json.loads(shown)
        assert made == json.loads((out / "demo.json").read_text())
        assert_right(made, [10, 25])
        for row in made["relays"]:
            assert row["background_mbps"] / row["measured_mbps"] == pytest.approx(background, abs=0.03)
        assert_published(made)
    assert not list(temp.glob("flashflow-demo-*"))


def assert_published(made: dict[str, Any]) -> None:
    """stem reads the v3bw file, which has the results."""
    v3bw = BandwidthFile(Path(made["v3bw"]).read_bytes(), validate=True)
    assert set(v3bw.measurements) == {row["fingerprint"] for row in made["relays"]}
    for row in made["relays"]:
        kb_per_s = int(v3bw.measurements[row["fingerprint"]]["bw"])
        assert kb_per_s == pytest.approx(row["measured_mbps"] * 125, rel=0.001)


@pytest.fixture
def temp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for temporary folders."""
    return tmp_path_factory.mktemp("temp")


def start_demo(temp: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """A demo that makes its temporary folder in `temp`."""
    command = own_command("demo", *options, "--out", str(out))
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temp)},
    )


def test_a_relay_that_miscounts_by_a_fifth_fails_the_demo(tmp_path: Path) -> None:
    cheat = (
        f"{sys.executable} {Path(__file__).parents[1] / 'support' / 'cheating_relay.py'} --cheat miscount=1.2"
    )
    options = ["--rates", "20", "--duration", "3", "--relay-command", cheat]
    done = flashflow("demo", *options, "--out", tmp_path / "out", seconds=100)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "% off the relay's own count" in done.stdout
    kept = Path(done.stdout.split("everything is kept in ")[1].splitlines()[0])
    assert (kept / "logs" / "relay1.log").exists()
    (row,) = json.loads((tmp_path / "out" / "demo.json").read_text())["relays"]
    assert row["error_pct"] == pytest.approx(100 * (1 / 1.2 - 1), abs=2)


def test_a_process_that_fails_is_named_and_its_log_is_shown(tmp_path: Path) -> None:
    broken = f"{sys.executable} -c \"import sys; sys.exit('no such thing')\""
    done = flashflow("demo", "--rates", "20", "--relay-command", broken, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "relay1 ended with status 1 before it was ready" in done.stderr
    assert "no such thing" in done.stdout
    kept = Path(done.stderr.split("everything is kept in ")[1].strip(")\n"))
    assert (kept / "logs" / "relay1.log").read_text() == "no such thing\n"
    assert not (tmp_path / "out" / "demo.json").exists()


@pytest.mark.faults
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("moment", ["starting", "measuring"])
def test_a_signal_ends_everything_within_two_seconds(
    tmp_path: Path, temp: Path, moment: str, number: signal.Signals, status: int
) -> None:
    demo = start_demo(temp, tmp_path / "out", "--rates", "8", "--duration", "60")
    assert demo.stdout is not None
    wait_for_output(demo, "relay1 (1/1): second" if moment == "measuring" else "")
    processes = [*psutil.Process(demo.pid).children(recursive=True)]
    assert processes
    demo.send_signal(number)
    out, err = demo.communicate(timeout=2)
    assert demo.returncode == status, out + err
    assert "Traceback" not in err
    assert not left_of(processes, 2)
    assert not list(temp.glob("flashflow-demo-*"))


def wait_for_output(demo: subprocess.Popen[str], text: str) -> None:
    """Until a line with `text` was printed; without one, until the demo has started its first process."""
    assert demo.stdout is not None
    while not text and not psutil.Process(demo.pid).children():
        time.sleep(0.02)
    while text:
        line = demo.stdout.readline()
        assert line, "the demo ended too early"
        if text in line:
            return
