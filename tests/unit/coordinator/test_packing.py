"""Crews, first fit with its search, and how a rate is spread."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.packing import SEARCH_STEPS, crews_of, packed, spread


def test_a_team_of_ten_is_one_crew_and_the_eleventh_begins_another() -> None:
    team = {f"m{n:02}": 100 - n for n in range(11)}
    assert [len(crew) for crew in crews_of({name: team[name] for name in list(team)[:10]})] == [10]
    assert crews_of(team)[1] == {"m10": 90}


def test_crews_do_not_depend_on_the_order_and_leave_out_who_has_nothing() -> None:
    team = {"b": 5, "a": 5, "c": 7, "d": 0}
    assert list(crews_of(team)[0]) == list(crews_of(dict(reversed(team.items())))[0]) == ["c", "a", "b"]
    assert crews_of({"d": 0}) == ()


def test_first_fit() -> None:
    assert packed([6, 5, 4, 1], [7, 9]) == [0, 1, 1, 0]
    assert packed([], []) == []
    assert packed([1], []) is None
    assert packed([5, 5], [9]) is None


def test_a_search_finds_what_first_fit_does_not() -> None:
    rates, rooms = [6, 5, 3, 2, 2, 2], [10, 10]
    assert packed(rates, rooms) is None
    assert packed(rates, rooms, SEARCH_STEPS) == [0, 1, 1, 0, 0, 1]


def test_a_search_that_cannot_succeed_ends() -> None:
    assert packed([51] * 30, [100] * 29, SEARCH_STEPS) is None


@given(st.lists(st.integers(1, 20), max_size=8), st.lists(st.integers(0, 40), max_size=5))
def test_what_is_packed_fits(rates: list[int], rooms: list[int]) -> None:
    rates = sorted(rates, reverse=True)
    found = packed(rates, rooms, SEARCH_STEPS)
    if found is None:
        return
    for number, room in enumerate(rooms):
        assert sum(rate for rate, place in zip(rates, found, strict=True) if place == number) <= room


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 2**40), max_size=10), st.data())
def test_a_rate_is_spread_whole_and_within_what_is_free(free: dict[str, int], data: st.DataObject) -> None:
    rate = data.draw(st.integers(min(1, sum(free.values())), sum(free.values())))
    shares = spread(rate, free) if rate else {}
    assert sum(shares.values()) == rate
    assert all(0 < share <= free[name] for name, share in shares.items())


@pytest.mark.parametrize(("rate", "expected"), [(6, {"a": 4, "b": 2}), (9, {"a": 6, "b": 3}), (1, {"a": 1})])
def test_who_has_more_carries_more(rate: int, expected: dict[str, int]) -> None:
    assert spread(rate, {"a": 6, "b": 3}) == expected
