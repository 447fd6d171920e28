"""Where a relay's estimate comes from, and what it is loaded with."""

from fractions import Fraction
from math import ceil
from typing import Any

import pytest

from coordinator.core.estimate import FLOOR_BYTES, Estimate, candidates, estimates
from coordinator.core.params import Params
from coordinator.core.schedule import Candidate
from flashflow.model.ids import Mode
from flashflow.model.relay import RelayInfo
from flashflow.store.latest import LatestResult
from support.coordinator_world import relay

MB = 1_000_000


def known(number: int, **changes: Any) -> RelayInfo:
    fields = {"unmeasured": False, "consensus_weight_kb": 5000, "bandwidth_observed_bytes": 9 * MB}
    return relay(number, **{**fields, **changes})


def result(
    of: RelayInfo, rate_bytes: int, *, accepted: bool = True, mode: Mode = "echo"
) -> dict[Any, LatestResult]:
    return {of.fingerprint: LatestResult(of.fingerprint, "r", mode, 0.0, rate_bytes, 0, accepted, None)}


def estimate(of: RelayInfo, *others: RelayInfo, **more: Any) -> Estimate:
    given: dict[str, Any] = {"results": {}, "modes": {of.fingerprint: "echo"}, "raised": {}, **more}
    return estimates([of, *others], **given)[of.fingerprint]


def test_our_own_accepted_result_comes_first() -> None:
    one = known(1)
    assert estimate(one, results=result(one, 7 * MB)) == Estimate(7 * MB, ours=True)


@pytest.mark.parametrize("other", [{"accepted": False}, {"mode": "loop"}])
def test_a_lower_bound_or_another_mode_is_not_our_result(other: dict[str, Any]) -> None:
    one = known(1)
    assert estimate(one, results=result(one, 7 * MB, **other)) == Estimate(5 * MB, ours=False)


@pytest.mark.parametrize(
    ("fields", "rate"),
    [
        ({}, 5 * MB),
        ({"consensus_weight_kb": None}, 9 * MB),
        ({"consensus_weight_kb": None, "bandwidth_avg_bytes": 3 * MB}, 3 * MB),
        ({"consensus_weight_kb": None, "bandwidth_avg_bytes": None}, 9 * MB),
        ({"consensus_weight_kb": 0}, FLOOR_BYTES),
        ({"consensus_weight_kb": 1}, FLOOR_BYTES),
        ({"consensus_weight_kb": 125}, FLOOR_BYTES),
        ({"consensus_weight_kb": 126}, 126_000),
    ],
)
def test_then_the_consensus_then_the_descriptor_and_never_below_a_megabit(
    fields: dict[str, Any], rate: int
) -> None:
    assert estimate(known(1, **fields)) == Estimate(rate, ours=False)


def test_a_result_below_a_megabit_is_ours_but_the_floor_holds() -> None:
    one = known(1)
    assert estimate(one, results=result(one, 1000)) == Estimate(FLOOR_BYTES, ours=True)


@pytest.mark.parametrize(
    "fields", [{"unmeasured": True}, {"consensus_weight_kb": None, "bandwidth_observed_bytes": None}]
)
def test_unmeasured_counts_as_nothing_known_and_gets_the_upper_quartile(fields: dict[str, Any]) -> None:
    others = [known(number, consensus_weight_kb=1000 * number) for number in range(2, 10)]
    assert estimate(known(1, **fields), *others) == Estimate(7 * MB, ours=False)
    assert estimate(known(1, **fields)) == Estimate(FLOOR_BYTES, ours=False)


def test_a_raised_estimate_wins_where_it_is_larger() -> None:
    one = known(1)
    raised = {one.fingerprint: 8 * MB}
    assert estimate(one, raised=raised) == Estimate(8 * MB, ours=False)
    assert estimate(one, results=result(one, 7 * MB), raised=raised) == Estimate(8 * MB, ours=False)
    assert estimate(one, results=result(one, 9 * MB), raised=raised) == Estimate(9 * MB, ours=True)


def test_candidates_are_loaded_with_f_times_the_estimate_within_the_limit_and_know_their_group() -> None:
    relays = [known(number) for number in range(1, 5)]
    found = estimates(
        relays,
        result(relays[1], 2 * MB),
        {relay.fingerprint: "echo" for relay in relays},
        {},
    )
    params = Params(multiplier_known=Fraction(3, 2))
    one, two, three, four = (relay.fingerprint for relay in relays)
    assert candidates(found, {three: MB, four: 10**12}, [(one, three)], params) == [
        Candidate(one, ceil(5 * MB * 2.953125), 0),
        Candidate(two, ceil(2 * MB * 1.96875), None),
        Candidate(three, MB, 0),
        Candidate(four, ceil(5 * MB * 2.953125), None),
    ]


@pytest.mark.parametrize("ours", [True, False])
def test_a_correct_estimate_is_accepted_with_either_multiplier(ours: bool) -> None:
    params = Params(multiplier_known=Fraction(3, 2))
    allocated = ceil(MB * params.factor(ours=ours))
    assert params.accepts(round(1.049 * MB), allocated, ours=ours)
    assert not params.accepts(round(1.051 * MB), allocated, ours=ours)
