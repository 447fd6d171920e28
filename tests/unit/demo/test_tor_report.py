"""The verdict of the demo with stock tor about its own figures."""

from dataclasses import replace
from typing import Any

import pytest

from flashflow.demo.report import document
from flashflow.demo.tor_plan import TorPlan
from flashflow.demo.tor_report import (
    TorRow,
    is_carried,
    make_tor_row,
    tor_complaints,
    tor_notes,
    tor_table,
    v3bw_weights,
)
from flashflow.model.ids import Fingerprint
from flashflow.testnet.tornet_bw import BwMedian
from flashflow.testnet.tornet_documents import ConsensusEntry

FIRST, SECOND = Fingerprint("A" * 40), Fingerprint("B" * 40)
V3BW = f"""1800000000
version=1.9.0
software=flashflow
=====
node_id=${FIRST} bw=4875 nick=relay1 ff_mode=loop
node_id=${SECOND} bw=12 nick=relay2 ff_mode=loop
"""


def result(measured_mbps: float) -> dict[str, Any]:
    return {
        "nickname": "relay1",
        "fingerprint": FIRST,
        "mode": "loop",
        "result_bytes": int(measured_mbps * 125_000),
        "background_bytes": 0,
        "allocated_bytes": 250_000_000,
    }


def count(cells: float, spread: float = 0.1, counter: float | None = None) -> BwMedian:
    return BwMedian(cells * 1.001, cells, 9, spread, cells if counter is None else counter)


def row(measured: float = 39, counted: float | BwMedian = 39, configured: float | None = 40) -> TorRow:
    return make_tor_row(
        result(measured),
        configured,
        counted if isinstance(counted, BwMedian) else count(counted),
        v3bw_weight=4875,
        entry=ConsensusEntry("relay1", running=True, weight_kb=4875, unmeasured=False),
        defences_acted=0,
    )


def test_a_row_has_the_keys_of_demo_json() -> None:
    made = document([row()], TorPlan((40.0,), 10), "/x/v3bw", 61.04)
    assert made["duration_s"] == 10
    assert made["relays"] == [
        {
            "nickname": "relay1",
            "fingerprint": FIRST,
            "mode": "loop",
            "configured_mbps": 40,
            "allocated_mbps": 2000.0,
            "relay_counted_mbps": 39,
            "relay_counted_raw_mbps": 39.039,
            "relay_counted_spread": 0.1,
            "relay_counter_mbps": 39,
            "counter_error_pct": 0.0,
            "measured_mbps": 39.0,
            "background_mbps": 0.0,
            "error_pct": 0.0,
            "machine_limited": False,
            "v3bw_weight": 4875,
            "consensus_weight": 4875,
            "consensus_unmeasured": False,
            "defences_acted": 0,
        }
    ]


@pytest.mark.parametrize("measured", [97.01, 100, 102.99])
def test_nothing_to_complain_of(measured: float) -> None:
    assert tor_complaints(row(measured, 100, None)) == []


@pytest.mark.parametrize(("measured", "off"), [(96.9, "-3.1"), (103.2, "+3.2"), (0, "-100.0")])
def test_far_from_tor_s_own_count(measured: float, off: str) -> None:
    (line,) = tor_complaints(row(measured, 100))
    assert f"is {off} % off tor's own count, 100.0 (at most 3 % allowed)" in line


def test_where_tor_s_seconds_differ_its_counter_is_the_yardstick() -> None:
    right = row(100, count(110, spread=0.8, counter=101), None)
    assert tor_complaints(right) == []
    (note,) = tor_notes([right])
    assert "tor's own seconds differ by 80%" in note
    assert note.endswith("it read 101.0 in them, -0.99 %")
    wrong = row(100, count(100, spread=0.8, counter=110), None)
    assert "is -9.1 % off tor's own count, 110.0" in tor_complaints(wrong)[0]


def test_where_they_are_steady_bw_events_are_the_yardstick() -> None:
    steady = row(100, count(110, spread=0.14, counter=100), None)
    assert "is -9.1 % off tor's own count, 110.0" in tor_complaints(steady)[0]
    assert tor_notes([steady]) == []


def test_a_consensus_with_another_weight() -> None:
    (line,) = tor_complaints(replace(row(), consensus_weight=20))
    assert line == "relay1: the consensus has Bandwidth=20, the v3bw file bw=4875"
    (line,) = tor_complaints(replace(row(), consensus_unmeasured=True))
    assert line == "relay1: the consensus has Bandwidth=4875 Unmeasured=1, the v3bw file bw=4875"


def test_a_relay_that_the_consensus_lacks() -> None:
    made = make_tor_row(result(39), 40, count(39), v3bw_weight=4875, entry=None, defences_acted=0)
    assert (made.consensus_weight, made.consensus_unmeasured) == (0, True)
    assert len(tor_complaints(made)) == 1


def test_defences_that_acted() -> None:
    assert tor_complaints(replace(row(), defences_acted=3)) == ["relay1: tor's defences acted 3 times"]


@pytest.mark.parametrize(
    ("counted", "configured", "limited"), [(24.1, 40, False), (23.9, 40, True), (500, None, True)]
)
def test_what_the_machine_limits(counted: float, configured: float | None, limited: bool) -> None:
    assert row(counted, counted, configured).machine_limited is limited


def test_weights_of_a_v3bw_file() -> None:
    assert v3bw_weights(V3BW) == {FIRST: 4875, SECOND: 12}


@pytest.mark.parametrize(
    ("entry", "carried"),
    [
        (ConsensusEntry("relay2", True, 12, False), True),
        (ConsensusEntry("relay2", True, 12, True), False),
        (ConsensusEntry("relay2", True, 13, False), False),
        (None, False),
    ],
)
def test_a_consensus_that_carries_the_file(entry: ConsensusEntry | None, carried: bool) -> None:
    entries = {FIRST: ConsensusEntry("relay1", True, 4875, False)} | ({SECOND: entry} if entry else {})
    assert is_carried(v3bw_weights(V3BW), entries) is carried


def test_the_table_has_both_counts_and_both_weights() -> None:
    table = tor_table([row(), row(500, 501, None)])
    assert table.rows[0] == ["relay1", "40", "39.0", "39.0", "39.0", "+0.00 %", "4875", "4875"]
    assert table.rows[1][:2] == ["relay1", "none"]
    assert len(table.columns) == 8
