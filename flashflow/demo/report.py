"""FlashFlow's figures beside the relays' own counts: demo.json, the table, the verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flashflow.ctrl.tables import Table
from flashflow.demo.plan import BACKGROUND_RATIO, MEASURERS, Plan

MAX_COUNT_ERROR_PCT = 3.0
"""How far a result may be from the relay's own count."""
MAX_CONFIGURED_ERROR_PCT = 10.0
"""How far a result may be from the configured rate, unless the machine was the limit."""
MACHINE_LIMITED_SHARE = 0.9
"""Below this share of its configured rate, by its own count, the machine was a relay's limit."""


@dataclass(frozen=True, slots=True)
class Row:
    """One relay, as it stands in demo.json; rates are Mbit/s of cells."""

    nickname: str
    """The relay's nickname."""
    fingerprint: str
    """Its fingerprint, 40 hex digits."""
    mode: str
    """How it was measured."""
    configured_mbps: float
    """The limit it was started with."""
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
    machine_limited: bool
    """The relay's own count is below 90 % of its configured rate."""

    @property
    def clamp_mbps(self) -> float:
        """What the clamp leaves of the relay's own count: x + min(rest, x·r/(1-r)), x the echoed part."""
        echoed = self.measured_mbps - self.background_mbps
        rest = max(0.0, self.relay_counted_mbps - echoed)
        return echoed + min(rest, echoed * BACKGROUND_RATIO / (1 - BACKGROUND_RATIO))


def make_row(result: dict[str, Any], configured_mbps: float, counted_mbps: float) -> Row:
    """The row for the coordinator's result object (a successful one)."""
    measured = result["result_bytes"] / 125_000
    return Row(
        nickname=result["nickname"],
        fingerprint=result["fingerprint"],
        mode=result["mode"],
        configured_mbps=configured_mbps,
        allocated_mbps=round(result["allocated_bytes"] / 125_000, 3),
        relay_counted_mbps=round(counted_mbps, 3),
        measured_mbps=round(measured, 3),
        background_mbps=round(result["background_bytes"] / 125_000, 3),
        error_pct=round(percent_off(measured, counted_mbps), 3),
        machine_limited=counted_mbps < MACHINE_LIMITED_SHARE * configured_mbps,
    )


def percent_off(value: float, reference: float) -> float:
    """How far `value` is from `reference`, percent; everything is 100 % off zero."""
    return 100 * (value / reference - 1) if reference else 100.0


def complaints(row: Row, plan: Plan) -> list[str]:
    """What is wrong with a relay's figures, each in a line; nothing if the demo may call it right.

    Where the background offered is at or above what may be believed, the yardstick is what the clamp leaves.
    """
    clamped = plan.background_percent >= 100 * BACKGROUND_RATIO
    expected = row.clamp_mbps if clamped else row.relay_counted_mbps
    what = "what the clamp leaves of the relay's own count" if clamped else "the relay's own count"
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


def document(rows: Sequence[Row], plan: Plan, v3bw: str, elapsed_s: float) -> dict[str, Any]:
    """The content of demo.json."""
    return {
        "relays": [asdict(row) for row in rows],
        "measurers": len(MEASURERS),
        "duration_s": plan.duration_s,
        "v3bw": v3bw,
        "elapsed_s": round(elapsed_s, 1),
    }


def table(rows: Sequence[Row], plan: Plan) -> Table:
    """The table at the end; with background traffic it shows what the clamp predicts."""
    columns = [
        "relay",
        "mode",
        "configured>",
        "allocated>",
        "relay counted>",
        "measured>",
        "background>",
        "error>",
    ]
    if plan.background_percent:
        columns.append("clamp predicts>")
    lines = [_cells(row) + ([f"{row.clamp_mbps:.1f}"] if plan.background_percent else []) for row in rows]
    return Table((*columns, "note"), [[*cells, _note(row)] for cells, row in zip(lines, rows, strict=True)])


def _cells(row: Row) -> list[str]:
    rates = (
        row.configured_mbps,
        row.allocated_mbps,
        row.relay_counted_mbps,
        row.measured_mbps,
        row.background_mbps,
    )
    return [row.nickname, row.mode, *(f"{rate:.1f}" for rate in rates), f"{row.error_pct:+.2f} %"]


def _note(row: Row) -> str:
    return "limited by this machine" if row.machine_limited else ""
