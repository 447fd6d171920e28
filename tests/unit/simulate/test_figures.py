"""The figures of outcomes that are known, and the lower bound by hand."""

from fractions import Fraction

import pytest

from coordinator.simulate.figures import figures_of, lower_bound_hours, split_groups
from coordinator.simulate.world import Outcome
from flashflow.model.ids import Fingerprint

MBIT = 125_000
A, B, C = (Fingerprint(letter * 40) for letter in "ABC")


def outcome(
    fingerprint: Fingerprint,
    slot: int,
    mbps: int,
    *,
    result: int | None = 1,
    accepted: bool = True,
    limited: bool = False,
) -> Outcome:
    return Outcome(fingerprint, slot, mbps * MBIT, result, accepted, limited)


def test_each_relay_counts_f_times_its_estimate_but_no_more_than_the_team() -> None:
    team = (100 * MBIT, 100 * MBIT)
    estimates = [10 * MBIT, 10 * MBIT, 500 * MBIT]
    # 3 x 10 + 3 x 10 + 200 Mbit/s over 200 Mbit/s are 1.3 slots
    assert lower_bound_hours(estimates, Fraction(3), team, 3600) == pytest.approx(1.3)
    assert lower_bound_hours(estimates, Fraction(3), team, 30) == pytest.approx(1.3 * 30 / 3600)


def test_one_relay_gets_ten_measurers_at_most() -> None:
    assert lower_bound_hours([500 * MBIT], Fraction(3), (100 * MBIT,) * 20, 3600) == pytest.approx(0.5)


def test_figures_of_outcomes() -> None:
    outcomes = [
        outcome(A, 0, 50),
        outcome(B, 0, 50, accepted=False),
        outcome(C, 1, 100, accepted=False, limited=True),
        outcome(B, 3, 100),
        outcome(A, 3, 10, result=None),
    ]
    figures = figures_of(outcomes, 5, 2.0, (60 * MBIT, 40 * MBIT), 3600)
    assert (figures.relays, figures.measured, figures.accepted) == (5, 3, 2)
    assert (figures.hours, figures.ratio, figures.slots_used) == (4.0, 2.0, 3)
    assert figures.utilisation == pytest.approx(310 / 400)
    assert (figures.remeasured, figures.failed, figures.team_limited) == (2, 1, 1)


def test_a_relay_that_was_limited_and_then_measured_is_not_limited() -> None:
    outcomes = [outcome(A, 0, 100, accepted=False, limited=True), outcome(A, 1, 100)]
    assert figures_of(outcomes, 1, 1.0, (100 * MBIT,), 3600).team_limited == 0


def test_nothing_measured() -> None:
    figures = figures_of([], 3, 1.0, (100 * MBIT,), 30)
    assert (figures.measured, figures.hours, figures.slots_used, figures.utilisation) == (0, 0.0, 0, 0.0)


def test_a_group_is_split_if_its_first_measurements_are_in_several_slots() -> None:
    outcomes = [outcome(A, 0, 1), outcome(B, 0, 1), outcome(C, 1, 1), outcome(B, 2, 1)]
    assert split_groups(outcomes, [(A, B)]) == 0
    assert split_groups(outcomes, [(A, B), (B, C), (A, B, C)]) == 2
    assert split_groups(outcomes, [(A, Fingerprint("D" * 40))]) == 0
