"""`flashflow simulate`: the real network beside a lower bound that is computed here, and what a user sees."""

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flashflow.shell.parent import child_environment, own_command
from support.commands import ROOT, error_line, flashflow, flashflow_here
from support.consensus_files import REAL_NETWORK, as_microdesc, real_text
from support.directory_files import EXCERPT

TEAM_MBPS = 3000
F = 2.25 * (1 + 0.05) / (1 - 0.20)
MAX_RATIO = 1.03
COUNTS = {
    "relays",
    "measured",
    "accepted",
    "slots_used",
    "remeasured",
    "failed",
    "team_limited",
    "split_groups",
}
NAMES = COUNTS | {"hours", "lower_bound_hours", "ratio", "utilisation", "build_s", "run_s", "peak_mb"}
"""The figures that docs/scheduling.md explains."""


def weights_mbps(text: str) -> list[float]:
    """Mbit/s of each relay by its `w` line, Unmeasured=1 as the 75th percentile of the others, at least 1."""
    lines = [line.split() for line in text.splitlines() if line.startswith("w Bandwidth=")]
    known = sorted(int(line[1].partition("=")[2]) * 8e-3 for line in lines if "Unmeasured=1" not in line)
    usual = known[int(len(known) * 0.75)]
    return [max(1.0, mbps) for mbps in [*known, *([usual] * (len(lines) - len(known)))]]


def least_hours(text: str, slot_s: int) -> float:
    """No schedule needs less: each relay takes f times its weight for a slot, out of what the team has."""
    return sum(min(F * mbps, TEAM_MBPS) for mbps in weights_mbps(text)) * slot_s / TEAM_MBPS / 3600


def is_near(figures: dict[str, Any], least: float) -> bool:
    return least * 0.999 <= figures["hours"] <= least * MAX_RATIO


def simulated(consensus: Path, *options: str) -> dict[str, Any]:
    result = flashflow("simulate", "--consensus", consensus, "--json", *options, seconds=110)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_the_real_network_is_measured_within_1_03_of_the_lower_bound() -> None:
    figures = simulated(REAL_NETWORK)
    least = least_hours(real_text(), 30)
    assert (figures["relays"], figures["measured"]) == (6532, 6532)
    assert (figures["remeasured"], figures["failed"]) == (0, 0)
    assert figures["lower_bound_hours"] == pytest.approx(least, rel=1e-3)
    assert figures["slots_used"] * 30 == pytest.approx(figures["hours"] * 3600)
    assert figures["ratio"] == pytest.approx(figures["hours"] / least, rel=1e-3)
    assert is_near(figures, least)
    assert set(figures) == NAMES
    assert {name for name, value in figures.items() if isinstance(value, int)} == COUNTS
    assert 0 < figures["build_s"] <= figures["run_s"]
    assert figures["peak_mb"] > 0


def few(folder: Path, text: str, number: int) -> Path:
    """A consensus of its first relays only."""
    head, *entries = text.partition("directory-footer")[0].split("\nr ")
    path = folder / "consensus"
    path.write_text("\nr ".join([head, *entries[:number]]) + "\ndirectory-footer\n")
    return path


def test_a_schedule_that_takes_a_fifth_longer_is_not_near(tmp_path: Path) -> None:
    path = few(tmp_path, real_text(), 600)
    least = least_hours(path.read_text(), 30)
    assert is_near(simulated(path), least)
    assert not is_near(simulated(path, "--multiplier", str(2.25 * 1.2)), least)


def test_a_day_with_uniform_measures_every_relay_of_a_microdescriptor_consensus(tmp_path: Path) -> None:
    path = tmp_path / "consensus"
    path.write_text(as_microdesc(real_text()))
    figures = simulated(path, "--strategy", "uniform", "--seed", "5")
    assert (figures["relays"], figures["measured"], figures["remeasured"]) == (6532, 6532, 0)
    assert 20 < figures["hours"] <= 24
    used = least_hours(path.read_text(), 30) / figures["hours"]
    assert figures["utilisation"] == pytest.approx(used, rel=1e-3)


def test_a_table_without_json(capsys: pytest.CaptureFixture[str]) -> None:
    result = flashflow_here(capsys, "simulate", "--consensus", EXCERPT, "--period", "600")
    assert (result.returncode, result.stderr) == (0, "")
    rows = dict(line.rsplit(maxsplit=1) for line in result.stdout.splitlines())
    assert rows["relays"] == rows["measured"] == "11"
    assert float(rows["hours"]) >= float(rows["lower bound hours"]) > 0


def test_families_take_descriptors(capsys: pytest.CaptureFixture[str]) -> None:
    result = flashflow_here(
        capsys, "simulate", "--consensus", EXCERPT, "--period", "600", "--co-location", "family"
    )
    assert result.returncode == 0
    assert result.stderr == (
        "note: a consensus names no families, --co-location family takes --descriptors\n"
    )


def test_a_terminal_sees_how_far_it_is() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        own_command("simulate", "--consensus", str(EXCERPT)),
        env={**child_environment(), "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # the other end is closed
            pass
        assert process.stdout is not None
        assert b"measured" in process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    assert b" of 2880" in shown


BAD_OPTIONS = [
    (["--team", "1000,fast"], "team: expected Mbit/s from 1 to 1000000 each, got 'fast'"),
    (["--slot", "22"], "slot: expected at least 23 s (set-up 15 + warm-up 2 + duration 1 + drain 5), got 22"),
    (
        ["--slot", "a"],
        "Invalid value for '--slot': ",
    ),
    (["--period", "45"], "period: expected a multiple of the slot of 30 s, got 45"),
    (["--epsilon1", "nan"], "Invalid value for '--epsilon1': "),
    (["--noise", "inf"], "Invalid value for '--noise': "),
    (["--co-location", "host"], "co-location: expected none, or some of address,family,prefix, got 'host'"),
    (
        ["--strategy", "slowest"],
        "Invalid value for '--strategy': ",
    ),
    (["--multiplier", "0.5"], "Invalid value for '--multiplier': "),
]


@pytest.mark.parametrize(("options", "reason"), BAD_OPTIONS)
def test_options_that_cannot_be(capsys: pytest.CaptureFixture[str], options: list[str], reason: str) -> None:
    result = flashflow_here(capsys, "simulate", "--consensus", EXCERPT, *options)
    assert error_line(result, 2).startswith(f"flashflow simulate: {reason}")


def test_no_consensus_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--consensus" in error_line(flashflow_here(capsys, "simulate"), 2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        (
            b"router test 127.0.0.1 9001 0 0\n",
            "not a consensus: expected it to begin with network-status-version",
        ),
        (REAL_NETWORK.read_bytes()[:50_000], "damaged: cannot be decompressed: "),
        (EXCERPT.read_bytes()[:2000], "damaged: the consensus is cut off, it has no directory-footer"),
    ],
)
def test_files_that_are_no_consensus(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    line = error_line(flashflow_here(capsys, "simulate", "--consensus", path), 1)
    assert line.startswith(f"flashflow simulate: {path}: {reason}")
