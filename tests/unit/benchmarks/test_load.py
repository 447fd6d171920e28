"""The load benchmark counts what is lost: whatever is missing somewhere ends it with the reason."""

from dataclasses import dataclass, field

import pytest

from benchmarks import coordinator
from benchmarks.coordinator import MEASUREMENTS, NAMES
from flashflow.wire.rules import SessionFigures

WHOLE = coordinator.MEASUREMENTS * coordinator.MEASURERS * coordinator.DURATION_S


@dataclass
class Ran:
    """What a run left behind, nothing lost."""

    reports: int = WHOLE
    outcomes: list[str] = field(default_factory=lambda: ["ok"] * MEASUREMENTS)
    gone: list[str] = field(default_factory=list)


def sent(**changes: float) -> dict[str, float]:
    return {
        "sent": WHOLE,
        "acknowledged": WHOLE,
        "lost": 0,
        "reconnects": 12,
        "back_after_max_s": 1.0,
    } | changes


def sessions(connections: int = 1) -> dict[str, SessionFigures]:
    figures = SessionFigures("open", connections, 0, 0.0, 0, 0, 0, 0, 0, 0)
    return dict.fromkeys(NAMES, figures)


def test_a_run_that_lost_nothing_passes() -> None:
    coordinator._check_nothing_lost(Ran(gone=[coordinator.RECONNECTING]), sent(), sessions(), WHOLE)


@pytest.mark.parametrize(
    ("ran", "counted", "connections", "stored", "reason"),
    [
        (Ran(reports=WHOLE - 1), sent(), 1, WHOLE, "reports received"),
        (Ran(), sent(sent=WHOLE - 1), 1, WHOLE, "reports sent"),
        (Ran(), sent(acknowledged=WHOLE - 1), 1, WHOLE, "reports acknowledged"),
        (Ran(), sent(), 1, WHOLE - 1, "reports stored"),
        (Ran(), sent(), 1, WHOLE + 1, "reports stored"),
        (Ran(outcomes=["ok"] * 99 + ["failed"]), sent(), 1, WHOLE, "99 of 100 measurements"),
        (Ran(), sent(lost=1), 1, WHOLE, "disconnected"),
        (Ran(), sent(), 2, WHOLE, "disconnected"),
        (Ran(gone=["m3"]), sent(), 1, WHOLE, "disconnected"),
        (Ran(), sent(reconnects=11), 1, WHOLE, "the measurer that is cut came back 11 times"),
    ],
)
def test_what_is_lost_ends_the_run(
    ran: Ran, counted: dict[str, float], connections: int, stored: int, reason: str
) -> None:
    with pytest.raises(RuntimeError, match=reason):
        coordinator._check_nothing_lost(ran, counted, sessions(connections), stored)
