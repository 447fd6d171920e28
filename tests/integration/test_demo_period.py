"""The demo of the schedule as it is typed: nobody asks for a measurement, one relay joins, one leaves."""

import json
import sys
from pathlib import Path

import pytest
from stem.descriptor.bandwidth_file import BandwidthFile

from flashflow.demo.report import MAX_COUNT_ERROR_PCT
from support.commands import flashflow

# One deployment at a time: each measures what this machine can do. They wait for slots, which takes a minute or two.
pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("deployment"), pytest.mark.timeout(200)]

OPTIONS = ("--period", "--rates", "10,8,6,1", "--duration", "3")


def test_relays_are_measured_in_their_slots_as_they_come_and_go(tmp_path: Path) -> None:
    done = flashflow("demo", *OPTIONS, "--json", "--out", tmp_path, seconds=180)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    print(done.stderr)
    assert made == json.loads((tmp_path / "demo.json").read_text())
    (left,) = made["left"]
    rows = {row["nickname"]: row for row in made["relays"]}
    assert {*rows, left["nickname"]} == {"relay1", "relay2", "relay3", "relay4"}
    for row in rows.values():
        assert abs(row["error_pct"]) <= MAX_COUNT_ERROR_PCT
        assert row["accepted"]
        assert row["allocated_mbps"] == pytest.approx(2.953125 * row["configured_mbps"], rel=0.01)
        assert 0 <= row["planned_slot"] < made["period_s"] // made["slot_s"]
        assert f"slot {row['slot']}: {row['nickname']} " in done.stderr
    assert made["joined"] == ["relay4"]
    assert rows["relay4"]["joined"]
    assert left["planned_slot"] > 0  # it left before its slot, and that passed without it
    assert (left["gave_up_slot"], left["measurements"], left["relay_counted_bytes"]) == (True, 0, 0)
    v3bw = BandwidthFile((tmp_path / "v3bw").read_bytes(), validate=True)
    assert set(v3bw.measurements) == {row["fingerprint"] for row in rows.values()}


def test_relays_that_miscount_by_a_fifth_fail_it(tmp_path: Path) -> None:
    cheat = Path(__file__).parents[1] / "support" / "cheating_relay.py"
    command = f"{sys.executable} {cheat} --cheat miscount=1.2"
    done = flashflow("demo", *OPTIONS, "--relay-command", command, "--out", tmp_path, seconds=180)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("% off the relay's own count") == 3
    for row in json.loads((tmp_path / "demo.json").read_text())["relays"]:
        assert row["error_pct"] == pytest.approx(100 * (1 / 1.2 - 1), abs=2)
