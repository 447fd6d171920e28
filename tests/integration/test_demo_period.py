"""The demo of the schedule as it is typed: nobody asks for a measurement, one relay joins, one leaves."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from stem.descriptor.bandwidth_file import BandwidthFile

from flashflow.demo.report import MAX_COUNT_ERROR_PCT
from support.commands import flashflow

# One deployment at a time: each measures what this machine can do. They wait for slots, which takes a minute or two.
pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("deployment"), pytest.mark.timeout(200)]

OPTIONS = ("--period", "--rates", "10,8,6,1", "--duration", "3")
CHEAT = Path(__file__).parents[1] / "support" / "cheating_relay.py"
RELAYS = {"honest": [], "miscounting": ["--relay-command", f"{sys.executable} {CHEAT} --cheat miscount=1.2"]}


@dataclass(frozen=True, slots=True)
class Demo:
    """One that has ended."""

    out: Path
    ended: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Demo]:
    """One for each kind of relays, at the same time: most of it they wait for slots."""

    def run(kind: str) -> Demo:
        out = tmp_path_factory.getbasetemp() / f"period-{kind}"
        return Demo(out, flashflow("demo", *OPTIONS, "--json", *RELAYS[kind], "--out", out, seconds=180))

    with ThreadPoolExecutor(len(RELAYS)) as threads:
        return dict(zip(RELAYS, threads.map(run, RELAYS), strict=True))


def test_relays_are_measured_in_their_slots_as_they_come_and_go(demos: dict[str, Demo]) -> None:
    out, done = demos["honest"].out, demos["honest"].ended
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    print(done.stderr)
    assert made == json.loads((out / "demo.json").read_text())
    (left,) = made["left"]
    rows = {row["nickname"]: row for row in made["relays"]}
    assert {*rows, left["nickname"]} == {"relay1", "relay2", "relay3", "relay4"}
    for row in rows.values():
        assert abs(row["error_pct"]) <= MAX_COUNT_ERROR_PCT
        assert row["accepted"]
        assert row["allocated_mbps"] == pytest.approx(2.953125 * row["configured_mbps"], rel=0.01)
        assert 0 <= row["slot"] == row["planned_slot"] < made["period_s"] // made["slot_s"]
        assert f"slot {row['slot']}: {row['nickname']} " in done.stderr
    assert made["joined"] == ["relay4"]
    assert rows["relay4"]["joined"]
    assert left["planned_slot"] > 0  # it left before its slot, and that passed without it
    assert (left["gave_up_slot"], left["measurements"], left["relay_counted_bytes"]) == (True, 0, 0)
    v3bw = BandwidthFile((out / "v3bw").read_bytes(), validate=True)
    assert set(v3bw.measurements) == {row["fingerprint"] for row in rows.values()}


def test_relays_that_miscount_by_a_fifth_fail_it(demos: dict[str, Demo]) -> None:
    out, done = demos["miscounting"].out, demos["miscounting"].ended
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.count("% off the relay's own count") == 3
    for row in json.loads((out / "demo.json").read_text())["relays"]:
        assert row["error_pct"] == pytest.approx(100 * (1 / 1.2 - 1), abs=2)
