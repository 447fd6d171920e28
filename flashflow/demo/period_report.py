"""What `flashflow demo --period` found: who was measured in which slot, who joined and who left, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flashflow.ctrl.tables import Table
from flashflow.demo.period_plan import PeriodPlan
from flashflow.demo.report import Row, complaints, make_row


@dataclass(frozen=True, slots=True)
class PeriodRow(Row):
    """One relay that was measured, as it stands in demo.json."""

    slot: int
    """The slot of the period in which it was measured."""
    planned_slot: int | None
    """The slot that the schedule gave it at first; None if none had room."""
    accepted: bool
    """Its result is no lower bound."""
    joined: bool
    """It came when the others had their slots."""


@dataclass(frozen=True, slots=True)
class Left:
    """A relay that left the consensus before its slot, as it stands in demo.json."""

    nickname: str
    """Its nickname."""
    fingerprint: str
    """Its fingerprint."""
    planned_slot: int | None
    """The slot that it had; None if none had room."""
    gave_up_slot: bool
    """It has none any more."""
    measurements: int
    """How often it was measured, or that was tried, after it left."""
    relay_counted_bytes: int
    """Cell bytes that it read after it left, by its own count."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A relay that should have been measured and was not."""

    nickname: str
    """Its nickname."""
    reason: str
    """What is known of why."""


def make_period_row(
    result: Mapping[str, Any],
    configured_mbps: float,
    counted_mbps: float,
    *,
    slot: int,
    planned_slot: int | None,
    joined: bool,
) -> PeriodRow:
    """The row for the coordinator's result object (a successful one)."""
    row = make_row(result, configured_mbps, counted_mbps)
    return PeriodRow(
        **asdict(row), slot=slot, planned_slot=planned_slot, accepted=result["accepted"], joined=joined
    )


def period_complaints(
    rows: Sequence[PeriodRow], left: Left, missing: Sequence[Missing], plan: PeriodPlan
) -> list[str]:
    """What is wrong, a line each; nothing if the demo may call it right."""
    found = [line for row in rows for line in complaints(row, plan)]
    found += [
        f"{row.nickname}: {row.measured_mbps:.1f} Mbit/s is a lower bound, though its estimate was right"
        for row in rows
        if not row.accepted
    ]
    found += [f"{one.nickname} was not measured: {one.reason}" for one in missing]
    if not left.gave_up_slot:
        found.append(f"{left.nickname} left, and yet keeps slot {left.planned_slot}")
    if left.measurements or left.relay_counted_bytes:
        found.append(
            f"{left.nickname} left, and yet was measured {left.measurements} times and read"
            f" {left.relay_counted_bytes} bytes of cells"
        )
    return found


def period_table(rows: Sequence[PeriodRow], left: Left) -> Table:
    """The table at the end, by slot."""
    columns = (
        "Mbit/s",
        "slot>",
        "configured>",
        "allocated>",
        "relay counted>",
        "measured>",
        "error>",
        "consensus",
    )
    lines = [_cells(row) for row in sorted(rows, key=lambda row: (row.slot, row.nickname))]
    return Table(columns, [*lines, [left.nickname, *["-"] * 6, "left"]])


def period_document(joined: str, left: Left, slot_s: int, period_s: int) -> dict[str, Any]:
    """What demo.json has beside what all demos have; `joined` is a nickname."""
    return {"slot_s": slot_s, "period_s": period_s, "joined": [joined], "left": [asdict(left)]}


def _cells(row: PeriodRow) -> list[str]:
    rates = (row.configured_mbps, row.allocated_mbps, row.relay_counted_mbps, row.measured_mbps)
    return [
        row.nickname,
        str(row.slot),
        *(f"{rate:.1f}" for rate in rates),
        f"{row.error_pct:+.2f} %",
        "joined" if row.joined else "",
    ]
