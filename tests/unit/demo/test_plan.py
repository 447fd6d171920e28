"""The demo's options."""

import pytest

from flashflow.demo.plan import MEASURERS, Plan, make_plan, parse_rates
from flashflow.model.errors import UsageError


def plan(relays: int | None = None, rates: str | None = None) -> Plan:
    return make_plan(relays, rates, 10, 0, "127.0.0.1")


def test_without_options_four_relays() -> None:
    assert plan().rates_mbps == (8, 40, 120, 400)


@pytest.mark.parametrize(("relays", "rates"), [(1, (8,)), (2, (8, 40)), (6, (8, 40, 120, 400, 8, 40))])
def test_a_number_of_relays_takes_the_default_rates_in_turn(relays: int, rates: tuple[float, ...]) -> None:
    assert plan(relays).rates_mbps == rates


def test_rates_alone_say_how_many_relays() -> None:
    assert plan(rates="5, 7.5").rates_mbps == (5, 7.5)
    assert plan(2, "5,7.5").rates_mbps == (5, 7.5)


def test_a_number_unlike_the_rates_is_refused() -> None:
    with pytest.raises(UsageError, match="--relays 3, but --rates gives 2: expected a rate for each relay"):
        plan(3, "5,7")


@pytest.mark.parametrize("text", ["", "8,", "fast", "0", "-1", "nan", "inf", "1e9", "8;40"])
def test_rates_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="expected Mbit/s between commas"):
        parse_rates(text)


@pytest.mark.parametrize(
    ("relays", "duration", "background", "host", "option"),
    [
        (0, 10, 0, "127.0.0.1", "--relays 0"),
        (51, 10, 0, "127.0.0.1", "--relays 51"),
        (1, 0, 0, "127.0.0.1", "--duration 0"),
        (1, 601, 0, "127.0.0.1", "--duration 601"),
        (1, 10, -1, "127.0.0.1", "--background -1"),
        (1, 10, 91, "127.0.0.1", "--background 91"),
        (1, 10, float("nan"), "127.0.0.1", "--background nan"),
        (1, 10, 0, "192.0.2.1", "--host '192.0.2.1'"),
    ],
)
def test_values_out_of_range(relays: int, duration: int, background: float, host: str, option: str) -> None:
    with pytest.raises(UsageError, match=f"^{option}: expected "):
        make_plan(relays, None, duration, background, host)


@pytest.mark.parametrize("rates", ["8", "8,40,120,400", "400.5", "1000", "2500,3"])
def test_the_team_is_large_enough_to_accept_the_fastest_relays_result(rates: str) -> None:
    made = plan(rates=rates)
    team_mbps = made.measurer_mbps * len(MEASURERS)
    assert team_mbps >= 2.25 * max(made.rates_mbps)
    assert max(made.rates_mbps) < team_mbps * (1 - 0.20) / 2.25


def test_the_measurers_capacity_does_not_give_the_rate_away() -> None:
    assert plan(rates="8").measurer_mbps == plan(rates="120").measurer_mbps == plan().measurer_mbps
