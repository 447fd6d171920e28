"""FlashFlow's figures beside the relays' own counts: demo.json, the table, the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from flashflow.ctrl.tables import Table
from flashflow.demo.plan import BACKGROUND_RATIO, MEASURERS, Plan

MAX_COUNT_ERROR_PCT = 3.0
"""How far a result may be from the relay's own count."""
MAX_CONFIGURED_ERROR_PCT = 10.0
"""How far a result may be from the configured rate, unless the machine was the limit."""
MACHINE_LIMITED_SHARE = 0.9
"""Below this share of its configured rate, by its own count, the machine was a relay's limit."""


class Timed(Protocol):
    """The plan of a demo."""

    @property
    def duration_s(self) -> int:
        """Seconds that each measurement counts."""
        ...


@dataclass(frozen=True, slots=True)
class Compared:
    """A relay's result beside its own count; rates are Mbit/s of cells."""

    nickname: str
    """The relay's nickname."""
    fingerprint: str
    """Its fingerprint, 40 hex digits."""
    mode: str
    """How it was measured."""
    allocated_mbps: float
    """What the measurers were told to load it with at most."""
    relay_counted_mbps: float
    """Median of what it read on its own sockets per second, during the measurement."""
    measured_mbps: float
    """FlashFlow's result."""
    background_mbps: float
    """Background traffic in it."""
    error_pct: float
    """measured_mbps against relay_counted_mbps."""


@dataclass(frozen=True, slots=True)
class Row(Compared):
    """One relay, as it stands in demo.json."""

    configured_mbps: float
    """The limit it was started with."""
    machine_limited: bool
    """The relay's own count is below 90 % of its configured rate."""


def compare(result: Mapping[str, Any], counted_mbps: float) -> Compared:
    """The coordinator's result object (a successful one) beside the relay's own count."""
    measured = result["result_bytes"] / 125_000
    return Compared(
        nickname=result["nickname"],
        fingerprint=result["fingerprint"],
        mode=result["mode"],
        allocated_mbps=round(result["allocated_bytes"] / 125_000, 3),
        relay_counted_mbps=round(counted_mbps, 3),
        measured_mbps=round(measured, 3),
        background_mbps=round(result["background_bytes"] / 125_000, 3),
        error_pct=round(percent_off(measured, counted_mbps), 3),
    )


def make_row(result: Mapping[str, Any], configured_mbps: float, counted_mbps: float) -> Row:
    """The row for the coordinator's result object (a successful one)."""
    return Row(
        **asdict(compare(result, counted_mbps)),
        configured_mbps=configured_mbps,
        machine_limited=counted_mbps < MACHINE_LIMITED_SHARE * configured_mbps,
    )


def clamp_mbps(row: Row, plan: Plan) -> float:
    """What the clamp formula predicts: x + min(offered, x·r/(1-r)), x the echoed part of the result."""
    echoed = row.measured_mbps - row.background_mbps
    offered = row.configured_mbps * plan.background_percent / 100
    return echoed + min(offered, echoed * BACKGROUND_RATIO / (1 - BACKGROUND_RATIO))


def percent_off(value: float, reference: float) -> float:
    """How far `value` is from `reference`, percent; everything is 100 % off zero."""
    return 100 * (value / reference - 1) if reference else 100.0


def complaints(row: Row, plan: Plan) -> list[str]:
    """What is wrong with a relay's figures, each in a line; nothing if the demo may call it right.

    Where as much background is offered as may be believed, or more, the yardstick is what the clamp predicts.
    """
    clamped = plan.background_percent >= 100 * BACKGROUND_RATIO
    expected = clamp_mbps(row, plan) if clamped else row.relay_counted_mbps
    what = "what the clamp predicts" if clamped else "the relay's own count"
    found = []
    off = percent_off(row.measured_mbps, expected)
    if abs(off) > MAX_COUNT_ERROR_PCT:
        found.append(
            f"{row.nickname}: measured {row.measured_mbps:.1f} Mbit/s is {off:+.1f} % off {what},"
            f" {expected:.1f} (at most {MAX_COUNT_ERROR_PCT:g} % allowed)"
        )
    off = percent_off(row.measured_mbps, row.configured_mbps)
    if abs(off) > MAX_CONFIGURED_ERROR_PCT and not row.machine_limited and not clamped:
        found.append(
            f"{row.nickname}: measured {row.measured_mbps:.1f} Mbit/s is {off:+.1f} % off the configured"
            f" {row.configured_mbps:g} (at most {MAX_CONFIGURED_ERROR_PCT:g} % allowed)"
        )
    return found


def document(rows: Sequence[Compared], plan: Timed, v3bw: str, elapsed_s: float) -> dict[str, Any]:
    """The content of demo.json."""
    return {
        "relays": [asdict(row) for row in rows],
        "measurers": len(MEASURERS),
        "duration_s": plan.duration_s,
        "v3bw": v3bw,
        "elapsed_s": round(elapsed_s, 1),
    }


def table(rows: Sequence[Row], plan: Plan) -> Table:
    """The table at the end, 80 columns wide; with background traffic it shows what the clamp predicts."""
    columns = [*_RATES, "error>"]
    lines = [[row.nickname, *_rates(row), f"{row.error_pct:+.2f} %"] for row in rows]
    if plan.background_percent:
        columns.append("clamp>")
        for row, line in zip(rows, lines, strict=True):
            line.append(f"{clamp_mbps(row, plan):.1f}")
    return Table(tuple(columns), lines)


def notes(rows: Sequence[Row]) -> list[str]:
    """What is to be said about relays beside the table, a line each."""
    share = f"{100 * MACHINE_LIMITED_SHARE:g} %"
    return [
        f"{row.nickname}: this machine is the limit; the relay itself counted less than {share} of {row.configured_mbps:g}"
        for row in rows
        if row.machine_limited
    ]


_RATES = ("Mbit/s", "configured>", "allocated>", "relay counted>", "measured>", "background>")


def _rates(row: Row) -> list[str]:
    rates = (
        row.configured_mbps,
        row.allocated_mbps,
        row.relay_counted_mbps,
        row.measured_mbps,
        row.background_mbps,
    )
    return [f"{rate:.1f}" for rate in rates]
