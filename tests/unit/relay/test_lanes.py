from dataclasses import dataclass

import pytest

from flashflow.relay.core.bucket import TokenBucket
from flashflow.relay.core.effects import Role
from flashflow.relay.lanes import PACE_S, ROUND_BYTES, TURN_BYTES, Lane

RATE = 1_000_000.0


@dataclass
class FakeLink:
    number: int
    role: Role = Role.MEASURER
    waiting: int = 1 << 40
    moved: int = 0


def visit(link: FakeLink, limit: int) -> int:
    count = min(limit, link.waiting)
    link.waiting -= count
    link.moved += count
    return count


def make_lane(links: list[FakeLink], rate: float | None = RATE) -> Lane:
    lane = Lane(TokenBucket(rate, 0.0), visit, lambda link: link.waiting > 0)
    for link in links:
        lane.add(link)
    return lane


def test_saturated_links_get_the_rate_and_equal_shares() -> None:
    links = [FakeLink(number) for number in range(7)]
    lane = make_lane(links)
    for step in range(1, 2001):
        lane.serve(step * 0.001)
    assert sum(link.moved for link in links) == pytest.approx(2 * RATE, rel=0.005)
    for link in links:
        assert link.moved == pytest.approx(2 * RATE / 7, rel=0.05)


def test_no_link_moves_more_than_the_tokens() -> None:
    link = FakeLink(1)
    lane = make_lane([link])
    lane.serve(0.01)
    assert link.moved == 10_000
    lane.serve(0.01)
    assert link.moved == 10_000


def test_a_link_that_wants_nothing_leaves() -> None:
    small, big = FakeLink(1, waiting=100), FakeLink(2)
    lane = make_lane([small, big])
    lane.serve(0.02)
    assert (small.moved, big.moved) == (100, 19_900)
    big.waiting = 0
    lane.serve(0.04)
    assert lane.wait_s(0.05, capped=False) is None


def test_a_link_waits_only_once() -> None:
    link = FakeLink(1, waiting=100)
    lane = make_lane([link, link, link])
    lane.serve(0.02)
    assert lane.wait_s(0.02, capped=False) is None


def test_without_a_cap_strangers_go_last() -> None:
    stranger, party = FakeLink(1, Role.STRANGER), FakeLink(2)
    lane = make_lane([stranger, party])
    for step in range(1, 11):
        lane.serve(step * 0.01)
    assert stranger.moved == 0
    assert party.moved == pytest.approx(RATE / 10, rel=0.05)


def test_with_a_cap_strangers_go_first_up_to_it() -> None:
    stranger, party = FakeLink(1, Role.STRANGER), FakeLink(2)
    lane = make_lane([stranger, party])
    for step in range(1, 101):
        lane.serve(step * 0.01, lambda step=step: step * 2000 - stranger.moved)
    assert stranger.moved == pytest.approx(0.2 * RATE, rel=0.03)
    assert stranger.moved <= 200_000
    assert stranger.moved + party.moved == pytest.approx(RATE, rel=0.01)


def test_without_a_limit_a_round_is_bounded() -> None:
    links = [FakeLink(number) for number in range(100)]
    lane = make_lane(links, rate=None)
    lane.serve(1.0)
    assert sum(link.moved for link in links) == ROUND_BYTES
    assert max(link.moved for link in links) == TURN_BYTES
    for _ in range(6):
        lane.serve(1.0)
    assert min(link.moved for link in links) == TURN_BYTES
    assert lane.wait_s(1.0, capped=False) == 0.0


def test_a_slow_bucket_is_served_in_turns_that_are_worth_while() -> None:
    link = FakeLink(1)
    lane = make_lane([link])
    wait_s = lane.wait_s(0.0, capped=False)
    assert wait_s == pytest.approx(PACE_S)
    lane.serve(PACE_S / 2)
    assert link.moved == 0
    lane.serve(PACE_S + 1e-9)
    assert link.moved == RATE * PACE_S


def test_strangers_at_their_cap_do_not_make_the_loop_spin() -> None:
    lane = make_lane([FakeLink(1, Role.STRANGER)], rate=None)
    lane.serve(1.0, lambda: 0)
    assert lane.wait_s(1.0, capped=True) == PACE_S
