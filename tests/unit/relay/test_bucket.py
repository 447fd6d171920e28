import pytest

from flashflow.relay.core.bucket import BURST_S, MIN_BURST_BYTES, UNLIMITED_BYTES, TokenBucket

RATES = [1_000_000.0, 5_000_000.0, 50_000_000.0]


def saturate(bucket: TokenBucket, moments: list[float], chunk: int = 514) -> list[int]:
    """What passes at each moment if something always waits."""
    passed = []
    for now_s in moments:
        count = bucket.available(now_s)
        count -= count % chunk
        bucket.take(count)
        passed.append(count)
    return passed


@pytest.mark.parametrize("rate", RATES)
def test_any_second_is_within_half_a_percent(rate: float) -> None:
    step_s = 0.0013
    bucket = TokenBucket(rate, 0.0)
    moments = [number * step_s for number in range(4000)]
    passed = saturate(bucket, moments)
    per_window = round(1 / step_s)
    for start in range(0, len(passed) - per_window, 97):
        total = sum(passed[start : start + per_window])
        assert total == pytest.approx(rate * per_window * step_s, rel=0.005)


@pytest.mark.parametrize("rate", RATES)
def test_after_a_pause_only_the_burst_is_extra(rate: float) -> None:
    bucket = TokenBucket(rate, 0.0)
    assert bucket.available(100.0) == int(max(MIN_BURST_BYTES, rate * BURST_S))


def test_it_starts_empty_and_never_negative() -> None:
    bucket = TokenBucket(1000.0, 5.0)
    assert bucket.available(5.0) == 0
    bucket.take(400)
    assert bucket.available(5.1) == 0
    assert bucket.available(5.5) == 100


def test_a_clock_that_stands_still_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(1000.0, 5.0)
    assert bucket.available(6.0) == 1000
    bucket.take(1000)
    assert bucket.available(6.0) == 0
    assert bucket.available(3.0) == 0
    assert bucket.available(6.5) == 500


def test_wait_says_when_tokens_are_there() -> None:
    bucket = TokenBucket(1000.0, 0.0)
    wait_s = bucket.wait_s(300, 0.0)
    assert wait_s == pytest.approx(0.3)
    assert bucket.available(wait_s + 1e-9) == 300
    assert bucket.wait_s(300, 0.3) == pytest.approx(0.0, abs=1e-9)


def test_wait_for_more_than_the_burst_is_wait_for_the_burst() -> None:
    bucket = TokenBucket(1000.0, 0.0)
    assert bucket.wait_s(10 * MIN_BURST_BYTES, 0.0) == pytest.approx(MIN_BURST_BYTES / 1000)


def test_a_new_rate_holds_from_then_on() -> None:
    bucket = TokenBucket(1_000_000.0, 0.0)
    bucket.set_rate(500_000.0, 0.01)
    assert bucket.available(0.01) == 10_000
    bucket.take(10_000)
    assert bucket.available(0.02) == 5_000


def test_no_limit() -> None:
    bucket = TokenBucket(None, 0.0)
    bucket.take(1 << 50)
    assert bucket.available(0.0) == UNLIMITED_BYTES
    assert bucket.wait_s(1 << 30, 0.0) == 0.0


def test_from_no_limit_to_a_limit() -> None:
    bucket = TokenBucket(None, 0.0)
    bucket.set_rate(1000.0, 50.0)
    assert bucket.available(50.0) == 0
    assert bucket.available(50.5) == 500
