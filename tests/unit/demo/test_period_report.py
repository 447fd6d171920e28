"""The verdict about a demo of the schedule."""

from dataclasses import replace

import pytest

from flashflow.demo.period_plan import make_period_plan
from flashflow.demo.period_report import (
    Left,
    Missing,
    PeriodRow,
    make_period_row,
    period_complaints,
    period_document,
    period_table,
)

PLAN = make_period_plan(None, None, None, 0, "127.0.0.1")
LEFT = Left("relay2", "B" * 40, planned_slot=1, gave_up_slot=True, measurements=0, relay_counted_bytes=0)


def row(
    measured_mbps: float = 20.0, *, accepted: bool = True, slot: int = 2, joined: bool = False
) -> PeriodRow:
    result = {
        "nickname": "relay1",
        "fingerprint": "A" * 40,
        "mode": "echo",
        "result_bytes": int(measured_mbps * 125_000),
        "background_bytes": 0,
        "allocated_bytes": 7_500_000,
        "accepted": accepted,
    }
    return make_period_row(result, 20.0, 20.0, slot=slot, planned_slot=slot, joined=joined)


def test_a_right_one_has_no_complaints() -> None:
    assert period_complaints([row(), row(joined=True)], LEFT, [], PLAN) == []


@pytest.mark.parametrize(
    ("rows", "left", "missing", "said"),
    [
        ([row(16.0)], LEFT, [], "off the relay's own count"),
        ([row(accepted=False)], LEFT, [], "is a lower bound"),
        ([], LEFT, [Missing("relay3", "it got no slot")], "relay3 was not measured: it got no slot"),
        ([], replace(LEFT, gave_up_slot=False), [], "relay2 left, and yet keeps slot 1"),
        ([], replace(LEFT, measurements=1), [], "relay2 left, and yet was measured 1 times"),
        ([], replace(LEFT, relay_counted_bytes=514), [], "read 514 bytes of cells"),
    ],
)
def test_what_is_wrong_is_told(rows: list[PeriodRow], left: Left, missing: list[Missing], said: str) -> None:
    found = period_complaints(rows, left, missing, PLAN)
    assert any(said in line for line in found), found


def test_the_table_goes_by_slot_and_says_who_came_and_went() -> None:
    shown = period_table([row(joined=True), row(slot=0)], LEFT)
    assert [line[1] for line in shown.rows] == ["0", "2", "-"]
    assert [line[-1] for line in shown.rows] == ["", "joined", "left"]


def test_what_demo_json_has_beside_the_relays() -> None:
    made = period_document("relay1", LEFT, 27, 81)
    assert (made["slot_s"], made["period_s"], made["joined"]) == (27, 81, ["relay1"])
    assert [(one["nickname"], one["planned_slot"]) for one in made["left"]] == [("relay2", 1)]
