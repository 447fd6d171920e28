"""What a user chooses: what it becomes, and what is said of what cannot be."""

from collections.abc import Callable
from fractions import Fraction

import pytest

from coordinator.simulate.settings import Settings, parse_colocation, parse_team
from flashflow.model.errors import UsageError

TEAM = (125_000_000,)


@pytest.mark.parametrize(("slot_s", "duration_s"), [(23, 1), (30, 8), (52, 30), (60, 30), (600, 30)])
def test_the_duration_is_what_the_slot_leaves(slot_s: int, duration_s: int) -> None:
    params = Settings(TEAM, slot_s=slot_s, period_s=slot_s * 10).params()
    assert params.duration_s == duration_s
    assert 15 + params.warmup_s + params.duration_s + 5 <= slot_s


def test_the_core_gets_what_was_chosen() -> None:
    m = Fraction(3, 2)
    params = Settings(TEAM, multiplier=m, strategy="uniform", colocation=frozenset({"prefix"})).params()
    assert (params.multiplier, params.multiplier_known) == (m, m)
    assert (params.strategy, params.colocation) == ("uniform", {"prefix"})
    assert params.allocation_factor == m * Fraction(105, 80)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        call()
    return caught.value.reason


def test_slots_and_periods_that_do_not_go_together() -> None:
    too_short = refusal(Settings(TEAM, slot_s=22).params)
    assert too_short == (
        "slot: expected at least 23 s (set-up 15 + warm-up 2 + duration 1 + drain 5), got 22"
    )
    assert refusal(Settings(TEAM, period_s=100).params) == (
        "period: expected a multiple of the slot of 30 s, got 100"
    )


def test_teams() -> None:
    assert parse_team("1000") == (125_000_000,)
    assert parse_team("1000,1.5, 20") == (125_000_000, 187_500, 2_500_000)


@pytest.mark.parametrize("word", ["", "x", "0", "-5", "nan", "inf", "1e9", "1000;1000"])
def test_a_capacity_that_is_none(word: str) -> None:
    assert refusal(lambda: parse_team(f"1000,{word}")) == (
        f"team: expected Mbit/s from 1 to 1000000 each, got {word!r}"
    )


def test_a_team_that_is_too_large() -> None:
    assert refusal(lambda: parse_team("1," * 100 + "1")) == "team: expected at most 100 measurers, got 101"


def test_co_location() -> None:
    assert parse_colocation("none") == frozenset()
    assert parse_colocation("prefix") == {"prefix"}
    assert parse_colocation("family,address") == {"family", "address"}


@pytest.mark.parametrize("text", ["", "all", "none,address", "address,", "address;family"])
def test_co_location_that_is_none(text: str) -> None:
    assert refusal(lambda: parse_colocation(text)) == (
        f"co-location: expected none, or some of address,family,prefix, got {text!r}"
    )
