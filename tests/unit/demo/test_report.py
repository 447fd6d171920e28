"""The demo's verdict about its own figures."""

from dataclasses import replace
from typing import Any

import pytest

from flashflow.demo.plan import Plan
from flashflow.demo.report import Row, clamp_mbps, complaints, document, make_row, notes, table

PLAN = Plan((100.0,), 10, 0.0, "127.0.0.1")


def result(measured_mbps: float, background_mbps: float = 0.0) -> dict[str, Any]:
    return {
        "nickname": "relay1",
        "fingerprint": "A" * 40,
        "mode": "echo",
        "result_bytes": int(measured_mbps * 125_000),
        "background_bytes": int(background_mbps * 125_000),
        "allocated_bytes": 150_000_000,
    }


def row(measured: float, counted: float, configured: float = 100.0, background: float = 0.0) -> Row:
    return make_row(result(measured, background), configured, counted)


def test_a_row_has_the_keys_of_demo_json() -> None:
    made = document([row(98, 100)], PLAN, "/x/v3bw", 61.04)
    assert set(made) == {"relays", "measurers", "duration_s", "v3bw", "elapsed_s"}
    assert made["relays"] == [
        {
            "nickname": "relay1",
            "fingerprint": "A" * 40,
            "mode": "echo",
            "configured_mbps": 100.0,
            "allocated_mbps": 1200.0,
            "relay_counted_mbps": 100,
            "measured_mbps": 98.0,
            "background_mbps": 0.0,
            "error_pct": -2.0,
            "machine_limited": False,
        }
    ]
    assert made["measurers"] == 2
    assert made["elapsed_s"] == 61.0


@pytest.mark.parametrize("measured", [97.01, 100, 102.99])
def test_within_three_percent_of_the_relays_count_is_right(measured: float) -> None:
    assert complaints(row(measured, 100), PLAN) == []


@pytest.mark.parametrize("measured", [96.9, 103.1, 0])
def test_farther_off_is_a_complaint(measured: float) -> None:
    found = complaints(row(measured, 100), PLAN)
    assert any("off the relay's own count" in line for line in found)


def test_a_relay_that_counts_a_fifth_too_much_is_found_out() -> None:
    assert any("-16.7 %" in line for line in complaints(row(100, 120), PLAN))


def test_ten_percent_below_the_configured_rate_is_a_complaint_unless_the_machine_was_the_limit() -> None:
    assert complaints(row(91, 91), PLAN) == []
    below = complaints(row(89.5, 90.5), PLAN)
    assert len(below) == 1
    assert "-10.5 % off the configured 100" in below[0]
    limited = row(85, 85)
    assert limited.machine_limited
    assert complaints(limited, PLAN) == []


def test_more_than_the_configured_rate_is_a_complaint_too() -> None:
    assert len(complaints(row(111, 111), PLAN)) == 1


def test_a_relay_that_counted_nothing_is_a_complaint_and_no_division_by_zero() -> None:
    assert row(5, 0).error_pct == 100
    assert complaints(row(5, 0), PLAN)


def with_background(percent: float) -> Plan:
    return replace(PLAN, background_percent=percent)


def test_the_clamp_believes_a_third_of_the_echoed_part_at_most() -> None:
    assert clamp_mbps(row(100, 100, background=20), with_background(20)) == 100
    assert clamp_mbps(row(80, 100, background=20), with_background(40)) == 80
    assert clamp_mbps(row(60, 100, background=0), with_background(40)) == 80


def test_with_too_much_background_the_yardstick_is_the_clamp() -> None:
    assert complaints(row(80, 100, background=20), with_background(40)) == []
    assert len(complaints(row(80, 100, background=20), with_background(20))) == 2
    assert len(complaints(row(90, 100, background=30), with_background(40))) == 1  # more than may be believed


def test_the_table_shows_the_prediction_where_there_is_background() -> None:
    plain = table([row(100, 100)], PLAN)
    assert plain.rows == [["relay1", "100.0", "1200.0", "100.0", "100.0", "0.0", "+0.00 %"]]
    heavy = table([row(80, 100, background=20)], with_background(40))
    assert heavy.columns[-1] == "clamp>"
    assert heavy.rows[0][-1] == "80.0"


def test_what_the_machine_limited_is_told() -> None:
    (line,) = notes([row(100, 100), row(50, 50)])
    assert line == "relay1: this machine is the limit; the relay itself counted less than 90 % of 100"
