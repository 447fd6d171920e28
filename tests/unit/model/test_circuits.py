"""How many circuits and how large a window, in numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashflow.model.circuits import (
    ECHO_SOCKETS_TEAM,
    LONG_PATH_S,
    MIN_WINDOW_CELLS,
    QUEUE_DELAY_S,
    SPREAD_CELLS,
    CircuitLimits,
    CircuitPlan,
    circuits_in_use,
    echo_circuits,
    plan_circuits,
)
from flashflow.model.units import CELL_BYTES

RATES = st.floats(0, 1e5) | st.floats(0, 1e10)
ROUND_TRIPS_S = st.floats(0, 5)
LIMITS = st.builds(
    CircuitLimits,
    max_circuits=st.integers(1, 160),
    circuit_cells=st.integers(MIN_WINDOW_CELLS, 800),
    min_circuits=st.integers(1, 8),
)
MANY = CircuitLimits(max_circuits=100)


@pytest.mark.parametrize(
    ("rate_cells", "round_trip_s", "plan"),
    [
        (1000, 0.0, CircuitPlan(1, 100)),  # 0.1 s of it
        (1000, 0.4, CircuitPlan(1, 500)),
        (8000, 0.0, CircuitPlan(1, 800)),
        (8010, 0.0, CircuitPlan(2, 801)),
        (1e6, 0.0, CircuitPlan(100, 80_000)),
        (1e6, 3.0, CircuitPlan(100, 80_000)),
        (0, 0.0, CircuitPlan(1, MIN_WINDOW_CELLS)),
    ],
)
def test_the_window_is_the_rate_times_the_round_trip_and_a_tenth_of_a_second(
    rate_cells: float, round_trip_s: float, plan: CircuitPlan
) -> None:
    assert plan_circuits(rate_cells * CELL_BYTES, round_trip_s, MANY) == plan


@given(RATES, ROUND_TRIPS_S, LIMITS)
def test_the_window_is_what_is_wanted_as_far_as_the_circuits_hold_it(
    rate_bytes: float, round_trip_s: float, limits: CircuitLimits
) -> None:
    plan = plan_circuits(rate_bytes, round_trip_s, limits)
    wanted = math.ceil(rate_bytes * (round_trip_s + QUEUE_DELAY_S) / CELL_BYTES)
    most = limits.max_circuits * limits.circuit_cells
    assert plan.window_cells == max(MIN_WINDOW_CELLS, min(wanted, most)) <= most
    assert 1 <= plan.n_circs <= limits.max_circuits
    assert plan.window_cells <= plan.n_circs * limits.circuit_cells


@given(RATES, ROUND_TRIPS_S, LIMITS)
def test_rather_fewer_circuits_than_windows_that_are_too_small(
    rate_bytes: float, round_trip_s: float, limits: CircuitLimits
) -> None:
    plan = plan_circuits(rate_bytes, round_trip_s, limits)
    if plan.n_circs > math.ceil(plan.window_cells / limits.circuit_cells):
        assert plan.window_cells >= plan.n_circs * MIN_WINDOW_CELLS


@given(RATES, RATES, ROUND_TRIPS_S, LIMITS)
def test_a_higher_rate_never_has_less(
    one_bytes: float, other_bytes: float, round_trip_s: float, limits: CircuitLimits
) -> None:
    lower, higher = (plan_circuits(rate, round_trip_s, limits) for rate in sorted((one_bytes, other_bytes)))
    assert lower.window_cells <= higher.window_cells
    assert lower.n_circs <= higher.n_circs


@pytest.mark.parametrize(
    ("window_cells", "circuits"), [(8, 1), (15, 1), (16, 2), (24, 3), (64, 4), (3200, 4)]
)
def test_the_fewest_circuits_are_opened_only_as_far_as_each_has_a_window(
    window_cells: int, circuits: int
) -> None:
    limits = CircuitLimits(max_circuits=100, min_circuits=4)
    rate_bytes = (window_cells - 0.5) * CELL_BYTES / QUEUE_DELAY_S
    assert plan_circuits(rate_bytes, 0.0, limits) == CircuitPlan(circuits, window_cells)


def test_the_fewest_circuits_are_no_more_than_the_most() -> None:
    assert plan_circuits(1e6, 0.0, CircuitLimits(max_circuits=2, min_circuits=4)).n_circs == 2


@given(RATES, ROUND_TRIPS_S, st.integers(1, 500))
def test_a_team_opens_no_more_sockets_than_it_may_in_echo_mode(
    rate_bytes: float, round_trip_s: float, team_size: int
) -> None:
    n_circs = echo_circuits(rate_bytes, round_trip_s, team_size)
    assert n_circs >= 1
    assert n_circs * team_size <= max(ECHO_SOCKETS_TEAM, team_size)


@pytest.mark.parametrize(
    ("rate_bytes", "team_size", "n_circs"),
    [
        (125e6, 1, 61),  # 1 Gbit/s at 0.1 s: 48 638 cells
        (125e6, 8, 20),
        (1e12, 1, ECHO_SOCKETS_TEAM),
        (125_000, 1, 4),
        (125_000, 80, 2),
        (0, 1, 1),
    ],
)
def test_circuits_of_a_measurer_in_echo_mode(rate_bytes: float, team_size: int, n_circs: int) -> None:
    assert echo_circuits(rate_bytes, 0.1, team_size) == n_circs


@given(RATES, RATES, ROUND_TRIPS_S, st.integers(1, 200))
def test_a_higher_rate_never_opens_fewer_circuits_in_echo_mode(
    one_bytes: float, other_bytes: float, round_trip_s: float, team_size: int
) -> None:
    lower, higher = sorted((one_bytes, other_bytes))
    assert echo_circuits(lower, round_trip_s, team_size) <= echo_circuits(higher, round_trip_s, team_size)


SHORT_S = math.nextafter(LONG_PATH_S, 0)


@pytest.mark.parametrize(
    ("window_cells", "short", "far"),
    [(1, 1, 1), (31, 1, 1), (32, 1, 2), (800, 1, 50), (801, 2, 50), (1600, 2, 100), (80_000, 100, 100)],
)
def test_few_circuits_are_used_on_a_short_path_and_many_on_a_long_one(
    window_cells: int, short: int, far: int
) -> None:
    assert circuits_in_use(window_cells, 0.0, MANY) == circuits_in_use(window_cells, SHORT_S, MANY) == short
    assert circuits_in_use(window_cells, LONG_PATH_S, MANY) == circuits_in_use(window_cells, 1.0, MANY) == far


@given(LIMITS, st.data(), ROUND_TRIPS_S)
def test_the_circuits_in_use_hold_the_window_and_are_among_those_that_are_open(
    limits: CircuitLimits, data: st.DataObject, round_trip_s: float
) -> None:
    window_cells = data.draw(st.integers(1, limits.max_circuits * limits.circuit_cells))
    n_circs = circuits_in_use(window_cells, round_trip_s, limits)
    least = math.ceil(window_cells / limits.circuit_cells)
    assert least <= n_circs <= limits.max_circuits
    if round_trip_s < LONG_PATH_S:
        assert n_circs == least
    elif n_circs > least:
        assert window_cells // n_circs >= SPREAD_CELLS
    assert n_circs <= circuits_in_use(window_cells + 1, round_trip_s, limits)
