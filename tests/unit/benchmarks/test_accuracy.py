"""The code that judges `make accuracy`: what must be found is found, planted faults most of all."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.accuracy.cpu import CpuSample, Used, figures
from benchmarks.accuracy.groups import GROUPS, SLOW_MBPS, chosen, shortened
from benchmarks.accuracy.judge import complaints, is_within, spread_pct
from benchmarks.accuracy.record import (
    CpuFigures,
    CpuUse,
    GroupRecord,
    Measurement,
    read_records,
    write_records,
)
from benchmarks.accuracy.report import PARTS, reported
from benchmarks.accuracy.stages import link_truth, relay_truth, tor_truth
from flashflow.demo.report import percent_off
from flashflow.testnet.tornet_bw import CELL_SHARE

RATE_BYTES = 5_000_000
BEGIN_S = 1000.0
SECONDS = 10
RESULT = {"active_utc_s": BEGIN_S, "duration_s": SECONDS}


def measured(mbps=40.0, truth_mbps=40.0, **changes):
    error = round(percent_off(mbps, truth_mbps), 3)
    return replace(Measurement("echo", "relay", 40.0, 1, mbps, truth_mbps, "count", error), **changes)


def records(measurements, **changes):
    record = GroupRecord("abc", "cpu", 2, "0.4.9", "2026-01-01T00:00:00", 30, 60.0, None, tuple(measurements))
    return {"echo": replace(record, **changes)}


def test_a_hundred_good_measurements_meet_the_goal():
    assert complaints(records([measured()] * 100)) == []


@pytest.mark.parametrize(("missed", "met"), [(0, True), (1, True), (2, False)])
def test_98_of_100_is_a_miss(missed, met):
    planted = [measured(41.3)] * missed + [measured()] * (100 - missed)
    assert (complaints(records(planted)) == []) is met


def test_99_of_101_is_a_miss():
    assert complaints(records([measured(41.3)] * 2 + [measured()] * 99))


def test_99_measurements_are_too_few():
    assert complaints(records([measured()] * 99)) == ["99 measurements, at least 100 expected"]


@pytest.mark.parametrize(
    ("mbps", "right"), [(41.2, True), (38.8, True), (41.3, False), (38.7, False), (48, False)]
)
def test_within_three_percent(mbps, right):
    assert is_within(measured(mbps)) is right


def test_a_failed_measurement_is_a_miss_and_named():
    lost = measured(0.0, 0.0, failure="the relay closed the link")
    found = complaints(records([lost] * 2 + [measured()] * 98))
    assert found[1:] == ["  echo, relay-limited 40 Mbit/s: failed: the relay closed the link"] * 2


def test_results_that_spread_are_a_miss_though_each_agrees_with_its_own_count():
    results = [38.0 + number / 2 for number in range(10)]
    steady = [measured(limit_mbps=8.0)] * 90
    [found] = complaints(records([*(measured(one, one) for one in results), *steady]))
    assert "spread by" in found


def test_spread_is_between_the_5th_and_the_95th_percentile():
    assert spread_pct([float(number) for number in range(101)]) == pytest.approx(180.0)
    assert spread_pct([40.0] * 10) == 0.0


def test_nine_runs_of_one_relay_are_too_few():
    [found] = complaints(records([measured()] * 9 + [measured(limit_mbps=8.0)] * 91))
    assert "was measured 10 times" in found


def test_a_group_that_ended_early_is_a_miss():
    found = complaints(records([measured()] * 100, problem="relay1: tor ended with status 1"))
    assert found == ["echo: ended early: relay1: tor ended with status 1"]


def relay_file(path: Path, rate_bytes: float) -> Path:
    lines = (
        {
            "utc_s": BEGIN_S + tenth / 10,
            "read_bytes": int(rate_bytes * tenth / 10),
            "written_bytes": 0,
            "read_packets": 0,
            "written_packets": 0,
            "segments_twice": 0,
        }
        for tenth in range(-10, 10 * SECONDS + 20)
    )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def tor_files(path: Path, rates_bytes: list[float], counter_bytes: float) -> Path:
    events = (
        {
            "utc_s": BEGIN_S + n + 1,
            "monotonic_s": 0.0,
            "read_bytes": int(rate / CELL_SHARE),
            "written_bytes": 0,
        }
        for n, rate in enumerate(rates_bytes)
    )
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    relay_file(path.with_name(f"{path.name}.counts"), counter_bytes / CELL_SHARE)
    return path


@pytest.mark.parametrize("fault", [0.8, 1.0, 1.2])
def test_a_planted_fault_of_a_fifth_is_found_by_every_count(tmp_path, fault):
    counted_bytes = fault * RATE_BYTES
    truths = [
        relay_truth(relay_file(tmp_path / "counts", counted_bytes), RESULT),
        link_truth(relay_file(tmp_path / "link", counted_bytes / CELL_SHARE), RESULT),
        tor_truth(tor_files(tmp_path / "bw", [counted_bytes] * SECONDS, RATE_BYTES), RESULT),
    ]
    for truth in truths:
        found = measured(40.0, truth.mbps)
        assert is_within(found) is (fault == 1.0)
        assert (complaints(records([found] * 100)) == []) is (fault == 1.0)


def test_where_tors_seconds_differ_its_counter_at_our_seconds_is_the_yardstick(tmp_path):
    uneven = [0.9 * RATE_BYTES, 1.1 * RATE_BYTES] * (SECONDS // 2)
    truth = tor_truth(tor_files(tmp_path / "bw", uneven, 1.2 * RATE_BYTES), RESULT)
    assert truth.source == "tor's traffic/read"
    assert truth.mbps == pytest.approx(48.0, rel=0.001)


@pytest.mark.parametrize(
    ("relay_s", "worker_s", "said"),
    [
        (9.6, 9.4, None),
        (9.4, 5.0, "the relay's busiest thread wanted a core 94% of the time"),
        (9.9, 9.6, "measurer1's worker wanted a core 96% of the time"),
    ],
)
def test_an_unlimited_relay_has_to_be_the_limit_itself(relay_s, worker_s, said):
    uses = (CpuUse("relay1", 8.0, 8.0, relay_s), CpuUse("measurer1's worker", 4.0, 4.0, worker_s))
    unlimited = measured(limit_mbps=None, limit="none", cpu=CpuFigures(10.0, 10**9, uses))
    found = complaints(records([measured()] * 99 + [unlimited]))
    assert [line.split(" %: ")[-1] for line in found] == ([] if said is None else [said])


def test_the_file_gives_back_what_was_kept(tmp_path):
    begin = CpuSample(0.0, {1: Used("relay1", 1.0, {1: (1.0, 0.25), 2: (0.0, 0.0)})})
    end = CpuSample(
        10.0,
        {
            1: Used("relay1", 10.5, {1: (10.0, 1.0), 2: (0.5, 9.0)}),
            2: Used("measurer1's worker", 4.0, {2: (4.0, 0.5)}),
        },
    )
    cpu = figures(begin, end, 10**9, "relay1")
    assert cpu.uses == (
        CpuUse("relay1", 9.5, busiest_thread_s=9.0, busiest_thread_wanted_s=9.75),
        CpuUse("measurer1's worker", 4.0, busiest_thread_s=4.0, busiest_thread_wanted_s=4.5),
    )
    kept = records([measured(), measured(limit_mbps=None, limit="none", cpu=cpu)])
    write_records(tmp_path / "accuracy.json", kept)
    assert read_records(tmp_path / "accuracy.json") == kept


def test_a_file_of_something_else_is_one_line(tmp_path):
    (tmp_path / "accuracy.json").write_text('{"echo": {"commit": 1}}')
    with pytest.raises(ValueError, match=r"accuracy\.json: not a file of make accuracy"):
        read_records(tmp_path / "accuracy.json")


def test_the_page_has_every_part_and_keeps_its_prose():
    page = (Path(__file__).parents[3] / "docs" / "accuracy.md").read_text()
    made = reported(page, records([measured()] * 99 + [measured(48.0)]))
    assert "**99 of 100 measurements are within 3 %.**" in made
    assert "measured 48.00, counted 40.00 (count), +20.00 %" in made
    assert reported(made, records([])).count("<!--") == 2 * len(PARTS)
    with pytest.raises(ValueError, match="<!-- runs -->"):
        reported(page.replace("<!-- runs -->", ""), {})


def test_a_full_run_has_what_the_goal_asks_for():
    assert sum(group.count for group in GROUPS) >= 100
    assert {group.mode for group in GROUPS} == {"loop", "echo"}
    for mode in ("loop", "echo"):
        groups = [group for group in GROUPS if group.mode == mode]
        assert {3.0, None} <= {limit for group in groups for limit in group.limits}
        assert {group.kind for group in groups} == {"relay", "link"}
        assert max(sum(40.0 in batch for batch in group.batches) for group in groups) >= 10


def test_groups_by_name():
    assert [group.name for group in chosen(["echo", "loop"])] == ["echo", "loop"]
    assert len(chosen([])) == len(GROUPS)
    with pytest.raises(ValueError, match="--groups nothing: expected some of loop"):
        chosen(["nothing"])
    assert shortened(chosen(["echo"])[0], 1).count == 10
    assert shortened(chosen(["echo"])[0], 2).batches[10] == SLOW_MBPS
