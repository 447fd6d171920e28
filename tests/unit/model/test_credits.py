"""The bucket that bounds connections, circuits and lines: a burst, then a rate."""

import pytest

from flashflow.model.bucket import Bucket


def taken(bucket: Bucket, now_s: float) -> int:
    """All that there is."""
    count = bucket.whole(now_s)
    bucket.take(count)
    return count


def test_a_burst_and_then_the_rate() -> None:
    bucket = Bucket(40, 20.0, 100.0)
    assert taken(bucket, 100.0) == 40
    assert taken(bucket, 100.0) == 0
    assert [taken(bucket, 100.0 + number / 20) for number in range(1, 101)] == [1] * 100


def test_parts_of_a_whole_add_up() -> None:
    bucket = Bucket(1, 20.0, 0.0)
    assert taken(bucket, 0.0) == 1
    assert [taken(bucket, at_s) for at_s in (0.01, 0.02, 0.03, 0.04, 0.05, 0.06)] == [0, 0, 0, 0, 1, 0]


def test_a_pause_earns_no_more_than_the_burst() -> None:
    bucket = Bucket(40, 20.0, 0.0)
    taken(bucket, 0.0)
    assert not bucket.full(1.9)
    assert bucket.full(2.0)
    assert taken(bucket, 3600.0) == 40


def test_what_is_taken_on_credit_has_to_be_earned_first() -> None:
    bucket = Bucket(10, 20.0, 0.0)
    bucket.take(30)
    assert bucket.whole(1.0) == 0
    assert bucket.next_s() == pytest.approx(1.05)
    assert bucket.whole(1.05) == 1


def test_it_says_when_there_is_one() -> None:
    bucket = Bucket(2, 4.0, 5.0)
    assert bucket.next_s() == 5.0
    bucket.take(2)
    assert bucket.next_s() == pytest.approx(5.25)
    assert bucket.whole(bucket.next_s()) == 1


def test_other_limits_give_back_nothing_that_was_used_up() -> None:
    bucket = Bucket(10, 1.0, 0.0)
    bucket.take(10)
    bucket.resize(100, 20.0, 1.0)
    assert bucket.whole(1.0) == 1
    assert bucket.whole(2.0) == 21
    bucket.resize(5, 20.0, 2.0)
    assert bucket.whole(2.0) == 5
