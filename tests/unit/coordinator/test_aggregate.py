"""The sums, against figures worked out by hand and a second, plain implementation."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.aggregate import Aggregate, aggregate, max_background, max_left_out
from flashflow.model.errors import ErrorKind
from flashflow.model.reports import SecondReport
from flashflow.model.results import Failure

QUARTER = Fraction(1, 4)


def reports(*recv: int) -> dict[int, SecondReport]:
    return {n: SecondReport(n, 0, value) for n, value in enumerate(recv, 1)}


def background(*pairs: tuple[int, int]) -> dict[int, SecondReport]:
    return {n: SecondReport(n, *pair) for n, pair in enumerate(pairs, 1)}


@pytest.mark.parametrize(
    ("measured", "ratio", "expected"),
    [
        (0, QUARTER, 0),
        (2, QUARTER, 0),
        (3, QUARTER, 1),
        (999, QUARTER, 333),
        (100, Fraction("0.4"), 66),
        (7, Fraction("0.1"), 0),
    ],
)
def test_most_background_is_exact(measured: int, ratio: Fraction, expected: int) -> None:
    assert max_background(measured, ratio) == expected


def test_sums_measurers_clamps_background_takes_median() -> None:
    summed = aggregate(
        3, [reports(100, 200, 300), reports(50, 40, 0)], background((10, 9), (900, 900), (5, 500)), QUARTER
    )
    assert isinstance(summed, Aggregate)
    assert [(s.measured_bytes, s.background_bytes) for s in summed.seconds] == [(150, 9), (240, 80), (300, 5)]
    assert summed.result_bytes == 305
    assert summed.background_bytes == 9


def test_missing_background_counts_nothing() -> None:
    summed = aggregate(2, [reports(10, 20)], {2: SecondReport(2, 6, 6)}, QUARTER)
    assert isinstance(summed, Aggregate)
    assert [s.total_bytes for s in summed.seconds] == [10, 26]


def test_seconds_that_a_measurer_lacks_are_left_out_for_all() -> None:
    short = {n: report for n, report in reports(1, 1, 1, 1, 1).items() if n != 5}
    summed = aggregate(5, [reports(10, 10, 10, 10, 9000), short], {}, QUARTER)
    assert isinstance(summed, Aggregate)
    assert [s.second for s in summed.seconds] == [1, 2, 3, 4]
    assert summed.result_bytes == 11


def test_too_many_missing_seconds_fail() -> None:
    short = {n: report for n, report in reports(1, 1, 1, 1, 1).items() if n < 4}
    failed = aggregate(5, [reports(1, 1, 1, 1, 1), short], {}, QUARTER)
    assert isinstance(failed, Failure)
    assert failed.kind is ErrorKind.NETWORK
    assert "2 of 5 seconds" in failed.reason


def test_nobody_reported() -> None:
    assert isinstance(aggregate(3, [], {}, QUARTER), Failure)
    assert isinstance(aggregate(3, [{}], {}, QUARTER), Failure)


@pytest.mark.parametrize(("duration", "most"), [(30, 6), (10, 2), (4, 0), (5, 1)])
def test_left_out_is_at_most_a_fifth(duration: int, most: int) -> None:
    assert max_left_out(duration) == most


amounts = st.integers(0, 10**12)


@given(st.lists(st.tuples(amounts, amounts, amounts, amounts), min_size=1, max_size=40), st.integers(1, 49))
def test_inflation_is_bounded(seconds: list[tuple[int, int, int, int]], percent: int) -> None:
    """Whatever a relay claims, no second counts more than x / (1 - r), and never less than x."""
    ratio = Fraction(percent, 100)
    summed = aggregate(
        len(seconds),
        [reports(*(a for a, *_ in seconds)), reports(*(b for _, b, *_ in seconds))],
        background(*((sent, recv) for *_, sent, recv in seconds)),
        ratio,
    )
    assert isinstance(summed, Aggregate)
    for (a, b, sent, recv), total in zip(seconds, summed.seconds, strict=True):
        assert a + b <= total.total_bytes <= (a + b) / (1 - ratio)
        assert total.background_bytes <= min(sent, recv)
