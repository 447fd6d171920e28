"""Slots, period and team of the demo of the schedule."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.params import Params
from flashflow.demo import period_deployment
from flashflow.demo.period_plan import (
    ALLOCATED,
    SPARE_SLOT_S,
    PeriodPlan,
    make_period_plan,
    next_period_utc_s,
    slot_length,
)
from flashflow.demo.plan import MEASURERS
from flashflow.demo.team import Team
from flashflow.model.errors import UsageError
from flashflow.model.timing import DRAIN_S, SETUP_S


def plan(relays: int | None = None, rates: str | None = None, background: float = 0) -> PeriodPlan:
    return make_period_plan(relays, rates, None, background, "127.0.0.1")


def test_without_options_four_relays_and_one_that_joins() -> None:
    made = plan()
    assert len(made.first_mbps) == 4
    assert made.rates_mbps[:-1] == made.first_mbps
    assert made.n_slots == 3
    assert made.shortest_slot_s == SETUP_S + 2 + 5 + DRAIN_S


def test_a_relay_is_allocated_what_the_coordinator_does() -> None:
    assert Params().allocation_factor == ALLOCATED


@given(st.lists(st.sampled_from([1.0, 6.0, 7.5, 40.0]), min_size=3, max_size=8))
def test_no_slot_holds_all_and_the_period_has_room_for_one_more(rates: list[float]) -> None:
    try:
        made = plan(rates=",".join(map(str, rates)))
    except UsageError:
        return
    team, first, joins = len(MEASURERS) * made.measurer_mbps, made.first_mbps, rates[-1]
    assert ALLOCATED * max(rates) <= team < ALLOCATED * sum(first)
    full = team - ALLOCATED * joins  # a slot with more than this has no room for the relay that joins
    assert (made.n_slots - 1) * full >= ALLOCATED * sum(first) or made.n_slots > len(rates)


@pytest.mark.parametrize(
    ("relays", "rates", "background", "said"),
    [
        (2, None, 0, "--period with 2 relays: expected 3 or more"),
        (3, "5,7", 0, "--relays 3, but --rates gives 2"),
        (None, "40,1,2", 0, "too many for one slot"),
        (None, None, 20, "--background 20: expected 0 with --period"),
        (0, None, 0, "--relays 0: expected 1 to 50"),
    ],
)
def test_what_is_refused(relays: int | None, rates: str | None, background: float, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan(relays, rates, background)


@given(st.floats(1.7e9, 1.9e9))
def test_the_period_begins_soon(ready_utc_s: float) -> None:
    made = plan()
    slot_s = slot_length(made, ready_utc_s)
    assert 0 <= slot_s - made.shortest_slot_s <= SPARE_SLOT_S
    wait_s = -ready_utc_s % (slot_s * made.n_slots)
    shortest_wait_s = -ready_utc_s % (made.shortest_slot_s * made.n_slots)
    later_s = (made.n_slots - 1) * (slot_s - made.shortest_slot_s)
    assert wait_s + later_s <= shortest_wait_s


@pytest.mark.parametrize("now_utc_s", [1.8e9 + 7.3 * i for i in range(40)])
def test_the_team_starts_in_the_last_slot_before_the_period(
    now_utc_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot that began before would be in the schedule of the period before."""
    clock = SimpleNamespace(now_utc_s=now_utc_s, started_utc_s=[])

    def sleep(seconds: float) -> None:
        clock.now_utc_s += seconds

    monkeypatch.setattr(period_deployment, "time", SimpleNamespace(time=lambda: clock.now_utc_s, sleep=sleep))
    monkeypatch.setattr(Team, "start_team", lambda *_: clock.started_utc_s.append(clock.now_utc_s))
    deployment = period_deployment.PeriodDeployment(plan(), tmp_path)
    deployment.start_team(deployment.settings())
    (started_utc_s,) = clock.started_utc_s
    begin_utc_s = next_period_utc_s(deployment.period_s, started_utc_s)
    assert period_deployment.LEAD_S <= begin_utc_s - started_utc_s <= deployment.slot_s
    assert begin_utc_s == next_period_utc_s(deployment.period_s, now_utc_s + period_deployment.LEAD_S)
