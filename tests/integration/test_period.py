"""Deployments that measure by their schedule: several short periods, and the demo as it is typed."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stem.descriptor.bandwidth_file import BandwidthFile

from flashflow.ctrl.client import CtrlClient
from flashflow.demo.deployment import RunningRelay
from flashflow.demo.period_deployment import PeriodDeployment
from flashflow.demo.period_plan import PeriodPlan
from flashflow.demo.report import MAX_COUNT_ERROR_PCT
from flashflow.model.ids import Fingerprint, MeasId
from flashflow.model.results import MeasurementRecord, MeasurerShare
from flashflow.store.store import Store
from flashflow.testnet.counts import median_read_mbps
from support.commands import flashflow
from support.waiting import wait_for

# They wait for slots, which takes a minute or two.
pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("deployment"), pytest.mark.timeout(240)]

TOO_LOW = 8
"""True capacity over the estimate."""
MBPS = 125_000


OPTIONS = ("--period", "--rates", "10,8,6,1", "--duration", "3")
CHEAT = Path(__file__).parents[1] / "support" / "cheating_relay.py"
RELAYS = {"honest": [], "miscounting": ["--relay-command", f"{sys.executable} {CHEAT} --cheat miscount=1.2"]}


@dataclass(frozen=True, slots=True)
class Demo:
    """One that has ended."""

    out: Path
    ended: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Demo]]]:
    """One for each kind of relays: all at the same time as the first test, for most of it they wait for slots."""

    def run(kind: str) -> Demo:
        out = tmp_path_factory.getbasetemp() / f"period-{kind}"
        return Demo(out, flashflow("demo", *OPTIONS, "--json", *RELAYS[kind], "--out", out, seconds=180))

    with ThreadPoolExecutor(len(RELAYS)) as threads:
        yield {kind: threads.submit(run, kind) for kind in RELAYS}


class ShortPeriods(PeriodPlan):
    """Two slots a period, and no relay that joins; the team has room for all relays at once."""

    n_slots = 2
    measurer_mbps = 100

    @property
    def first_mbps(self) -> tuple[float, ...]:
        return self.rates_mbps


class WithAPast(PeriodDeployment):
    """relay2 was measured before, and found to do an eighth of what it can do now."""

    def write_network(self) -> None:
        super().write_network()
        relay = self.relays[1]
        (self.folder / "coord" / "results").mkdir(exist_ok=True)
        with closing(Store.open(self.folder / "coord" / "results" / "results.sqlite")) as store:
            store.save(earlier(relay, int(relay.rate_mbps * MBPS / TOO_LOW)))


def earlier(relay: RunningRelay, result_bytes: int) -> MeasurementRecord:
    """An accepted result of an hour ago."""
    then_s = time.time() - 3600
    return MeasurementRecord(
        meas_id=MeasId(1),
        fingerprint=relay.fingerprint,
        nickname=relay.nickname,
        mode="echo",
        started_utc_s=then_s,
        active_utc_s=then_s + 2,
        ended_utc_s=then_s + 5,
        duration_s=3,
        background_ratio=0.25,
        shares=(MeasurerShare("measurer1", 3 * result_bytes, 4, ()),),
        background=(),
        result_bytes=result_bytes,
        background_bytes=0,
        accepted=True,
        failure=None,
        bandwidth_avg_bytes=None,
    )


def published(client: CtrlClient) -> dict[Fingerprint, dict[str, str]]:
    """The lines of the v3bw file as the coordinator would publish it now."""
    file = Path(client.request("v3bw")["path"])
    return BandwidthFile(file.read_bytes(), validate=True).measurements


def measured(client: CtrlClient, relay: RunningRelay) -> list[dict[str, Any]]:
    """This run's measurements of a relay, oldest first."""
    results = client.request("results", relay.fingerprint)["results"]
    return [result for result in reversed(results) if result["meas_id"] != 1]


@pytest.mark.usefixtures("demos")
def test_an_estimate_that_is_eight_times_too_low_grows_until_a_result_is_accepted(tmp_path: Path) -> None:
    """Of the consensus' weight, and of our own accepted result. Nobody asks for a measurement."""
    plan = ShortPeriods((24.0, 16.0), 3, 0.0, "127.0.0.1", weight_share=1 / TOO_LOW, strategy="fastest")
    with WithAPast(plan, tmp_path) as running:
        running.start()
        new, known = running.relays
        with running.ctrl() as client:
            past = published(client)[known.fingerprint]
            assert int(past["ff_result"]) == known.rate_mbps * MBPS / TOO_LOW
            wait_for(
                lambda: measured(client, new) and measured(client, known), "first results", 3 * running.slot_s
            )
            check_lower_bounds(client, new, known, past)
            wait_for(
                lambda: all(measured(client, relay)[-1]["accepted"] for relay in running.relays),
                "accepted results",
                6 * running.slot_s,
            )
            for relay in running.relays:
                check_steps(running, relay, measured(client, relay))
                check_accepted(client, relay)


def check_lower_bounds(
    client: CtrlClient, new: RunningRelay, known: RunningRelay, past: dict[str, str]
) -> None:
    """What is not accepted is published of the one that has nothing better, and says so."""
    for relay in (new, known):
        first = measured(client, relay)[0]
        assert first["outcome"] == "ok", first
        assert not first["accepted"]
        assert not first["team_limited"]
    rows = published(client)
    assert rows[known.fingerprint]["ff_result"] == past["ff_result"]
    assert "ff_lower_bound" not in rows[known.fingerprint]
    assert int(rows[new.fingerprint]["ff_result"]) in {one["result_bytes"] for one in measured(client, new)}
    assert rows[new.fingerprint]["ff_lower_bound"] == "1"


def check_steps(running: PeriodDeployment, relay: RunningRelay, results: list[dict[str, Any]]) -> None:
    """Each estimate is at least double the last, or what the relay showed; two measurements a period at most."""
    assert [one["accepted"] for one in results] == [*[False] * (len(results) - 1), True]
    f = 2.953125
    estimate = relay.rate_mbps * MBPS / TOO_LOW
    for one in results:
        assert one["allocated_bytes"] == pytest.approx(f * estimate, rel=0.01)
        estimate = max(one["result_bytes"], 2 * estimate)
    assert len(results) >= 3
    assert max(Counter(one["started_utc_s"] // running.period_s for one in results).values()) <= 2


def check_accepted(client: CtrlClient, relay: RunningRelay) -> None:
    """Within 3 % of what the relay's process counted, which is its limit; published."""
    last = measured(client, relay)[-1]
    counted_mbps = median_read_mbps(relay.counts, last["active_utc_s"], last["duration_s"])
    assert last["result_bytes"] / MBPS == pytest.approx(counted_mbps, rel=0.03)
    assert counted_mbps == pytest.approx(relay.rate_mbps, rel=0.1)
    row = published(client)[relay.fingerprint]
    assert int(row["ff_result"]) == last["result_bytes"]
    assert "ff_lower_bound" not in row


# --- the demo ---


def test_relays_are_measured_in_their_slots_as_they_come_and_go(demos: dict[str, Future[Demo]]) -> None:
    demo = demos["honest"].result()
    out, done = demo.out, demo.ended
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


def test_relays_that_miscount_by_a_fifth_fail_it(demos: dict[str, Future[Demo]]) -> None:
    demo = demos["miscounting"].result()
    out, done = demo.out, demo.ended
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.count("% off the relay's own count") == 3
    for row in json.loads((out / "demo.json").read_text())["relays"]:
        assert row["error_pct"] == pytest.approx(100 * (1 / 1.2 - 1), abs=2)
