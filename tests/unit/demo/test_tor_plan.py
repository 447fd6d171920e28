"""The demo's options with --tor."""

import pytest

from flashflow.demo.tor_plan import TorPlan, make_tor_plan, parse_tor_rates
from flashflow.model.errors import UsageError


def plan(relays: int | None = None, rates: str | None = None) -> TorPlan:
    return make_tor_plan(relays, rates, 10, 0, "127.0.0.1")


def test_without_options_four_relays_the_last_without_limit() -> None:
    assert plan().rates_mbps == (8, 40, 120, None)


def test_a_duration_of_its_own() -> None:
    assert make_tor_plan(None, None, None, 0, "127.0.0.1").duration_s == 25
    assert plan().duration_s == 10


def test_a_number_of_relays_takes_the_default_rates_in_turn() -> None:
    assert plan(6).rates_mbps == (8, 40, 120, None, 8, 40)


def test_rates_and_no_limit() -> None:
    assert plan(rates="5, unlimited").rates_mbps == (5, None)
    assert plan(2, "unlimited,7.5").rates_mbps == (None, 7.5)


@pytest.mark.parametrize(
    "text", ["", "8,", "fast", "0", "0.5", "nan", "inf", "1e9", "8;40", ",".join(["8"] * 21)]
)
def test_rates_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected up to 20 numbers of Mbit/s between commas"):
        parse_tor_rates(text)


@pytest.mark.parametrize(
    ("relays", "rates", "duration", "background", "host", "option"),
    [
        (0, None, 10, 0.0, "127.0.0.1", "--relays 0"),
        (21, None, 10, 0.0, "127.0.0.1", "--relays 21"),
        (3, "5,7", 10, 0.0, "127.0.0.1", "--relays 3, but --rates gives 2"),
        (None, None, 0, 0.0, "127.0.0.1", "--duration 0"),
        (None, None, 601, 0.0, "127.0.0.1", "--duration 601"),
        (None, None, 10, 20.0, "127.0.0.1", "--background 20: expected 0 with --tor"),
        (None, None, 10, 0.0, "192.0.2.1", "--host '192.0.2.1'"),
    ],
)
def test_what_is_refused(
    relays: int | None, rates: str | None, duration: int, background: float, host: str, option: str
) -> None:
    with pytest.raises(UsageError) as refused:
        make_tor_plan(relays, rates, duration, background, host)
    assert refused.value.reason.startswith(option)


def test_relays_are_not_where_measurers_are() -> None:
    """Else tor would take the measurers for relays and spare them its defences; IPv6 has one loopback address."""
    assert plan().network_host == "127.0.0.2"
    assert make_tor_plan(None, None, 10, 0, "::1").network_host == "::1"
