"""The sums, against figures worked out by hand and a second, plain implementation."""

from fractions import Fraction
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.aggregate import HELD_TOLERANCE_S, Aggregate, aggregate, max_background, max_left_out
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


RATE = 1_000_000
WAYS = 3 * RATE // 10
"""What is outstanding all the time: a round trip of 0.2 s, and 0.1 s."""


def echoed(*recv: int, outstanding: int = WAYS) -> dict[int, SecondReport]:
    """A measurer's reports that keeps so much outstanding all the time."""
    return {n: SecondReport(n, value + outstanding * (n == 1), value) for n, value in enumerate(recv, 1)}


def result_of(reports_of_one: dict[int, SecondReport], claims: int = 0) -> int:
    summed = aggregate(
        len(reports_of_one),
        [reports_of_one],
        background(*[(claims, claims)] * len(reports_of_one)),
        QUARTER,
    )
    assert isinstance(summed, Aggregate)
    return summed.result_bytes


STEADY = [RATE] * 30
HONEST = {
    "steady": STEADY,
    "uneven": [RATE - 40_000, RATE + 40_000] * 15,
    "stalled for a second": [*STEADY[:14], 0, *STEADY[:15]],
    "stalled for two, one at either end": [0, *STEADY[:28], 0],
    "stalled for six": [*STEADY[:24], *[0] * 6],
    "slower for a third of the time": [*STEADY[:20], *[RATE // 2] * 10],
}


@pytest.mark.parametrize("what", HONEST)
def test_what_is_outstanding_takes_next_to_nothing_from_an_honest_relay(what: str) -> None:
    seconds = HONEST[what]
    assert result_of(echoed(*seconds)) == pytest.approx(median(seconds), rel=0.001)
    assert result_of(echoed(*seconds), claims=9 * RATE) == pytest.approx(
        4 / 3 * result_of(echoed(*seconds)), abs=2
    )


def holding(high: int, low_s: int, held: int) -> list[int]:
    """Echoes of a relay that carries RATE a second: it holds so much at first, and in the low seconds as much again."""
    seconds, stored = [], held
    for n in range(30):
        room = min(RATE, held - stored) if n % 2 and n // 2 < low_s else 0
        sent = RATE - room if room else min(high, RATE + stored)
        stored += RATE - sent
        assert 0 <= stored <= held
        seconds.append(sent)
    return seconds


@pytest.mark.parametrize(("held_s", "gain"), [(0.1, 1.1), (0.5, 1.5), (0.9, 1.75)])
def test_a_relay_that_stores_and_bursts_gains_what_the_tolerance_gives_and_no_more(
    held_s: float, gain: float
) -> None:
    """Most of its seconds show `gain` times what it carries; the measurers keep as much outstanding as it holds."""
    held = int(held_s * RATE)
    seconds = holding(int(gain * RATE), 14, held)
    reports_of_one = echoed(*seconds, outstanding=held)
    unheeded = {
        n: SecondReport(n, report.recv_bytes, report.recv_bytes) for n, report in reports_of_one.items()
    }
    for claims, share in ((0, 1.0), (9 * RATE, 4 / 3)):
        assert result_of(reports_of_one, claims) <= RATE * share * 1.021
        assert result_of(unheeded, claims) > RATE * share * 1.021, "nothing else would prevent it"


@given(
    st.lists(
        st.tuples(st.integers(0, 100), st.integers(0, 300), st.integers(0, 300), st.integers(0, 10**7)),
        min_size=2,
        max_size=35,
    ),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_no_way_of_storing_gains_more(
    seconds: list[tuple[int, int, int, int]], stored_percent: int, waiting_percent: int
) -> None:
    """Whatever a relay of RATE holds, lets go and claims, and however much is sent to it."""
    stored, waiting = (
        RATE * stored_percent // 100,
        RATE * waiting_percent // 100,
    )  # at the relay, and before it
    reports_of_one, claims = {}, {}
    for n, (carried, let_go, sent, claim) in enumerate(seconds, 1):
        outstanding = stored + waiting
        sent_bytes, waiting = RATE * sent // 100, waiting + RATE * sent // 100
        carried_bytes = min(RATE * carried // 100, waiting)
        stored, waiting = stored + carried_bytes, waiting - carried_bytes
        recv_bytes = min(RATE * let_go // 100, stored)
        stored -= recv_bytes
        reports_of_one[n] = SecondReport(n, sent_bytes + outstanding * (n == 1), recv_bytes)
        claims[n] = SecondReport(n, claim, claim)
    summed = aggregate(len(seconds), [reports_of_one], claims, QUARTER)
    assert isinstance(summed, Aggregate)
    assert summed.result_bytes <= RATE * Fraction(4, 3) * (1 + HELD_TOLERANCE_S / len(seconds))
