import pytest

from flashflow.relay.core.background import FLOOR_ECHO_BYTES, BackgroundCap, echo_floor_bytes

FAST = 50_000_000.0


def clamp(echo_bytes: int, ratio: float) -> int:
    """The coordinator's formula."""
    return int(echo_bytes * ratio / (1 - ratio))


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.4])
def test_each_second_stays_within_the_coordinators_formula(ratio: float) -> None:
    cap = BackgroundCap(ratio, FAST, started_s=10.0)
    for second in range(3):
        used = echoed = 0
        for step in range(100):
            now_s = 10.0 + second + step / 100
            cap.echoed(300_000, now_s)
            echoed += 300_000
            share = cap.available(now_s)
            cap.used(share, now_s)
            used += share
        assert used <= clamp(echoed, ratio)
        assert used == pytest.approx(clamp(echoed, ratio), rel=0.001)


def test_unused_background_is_not_saved_for_the_next_second() -> None:
    cap = BackgroundCap(0.25, FAST, 0.0)
    cap.echoed(30_000_000, 0.5)
    assert cap.available(0.99) == 10_000_000
    assert cap.available(1.0) == 0


def test_little_echo_traffic_leaves_the_floor() -> None:
    cap = BackgroundCap(0.25, FAST, 0.0)
    cap.echoed(3, 0.5)
    assert cap.available(0.9) == int(FLOOR_ECHO_BYTES * 0.9 / 3)


def test_the_floor_of_a_slow_relay_is_what_the_coordinator_still_believes() -> None:
    rate = 1_000_000.0
    floor = echo_floor_bytes(rate, 0.25)
    background = floor * 0.25 / 0.75
    assert floor + background == rate
    assert echo_floor_bytes(None, 0.25) == FLOOR_ECHO_BYTES
    assert echo_floor_bytes(FAST, 0.25) == FLOOR_ECHO_BYTES


def test_more_than_the_cap_is_paid_back_within_the_second() -> None:
    cap = BackgroundCap(0.25, FAST, 0.0)
    cap.echoed(3_000_000, 0.1)
    cap.used(1_500_000, 0.1)
    assert cap.available(0.1) == 0
    cap.echoed(3_000_000, 0.2)
    assert cap.available(0.2) == 500_000


def test_a_ratio_of_zero_lets_nothing_pass() -> None:
    cap = BackgroundCap(0.0, FAST, 0.0)
    cap.echoed(3_000_000, 0.1)
    assert cap.available(0.9) == 0
