"""How fast circuits to one relay are opened, on a hand-driven clock."""

from flashflow.model.network import CEILING, NetworkLimits
from flashflow.torclient.core.limits import Openings


def opened_at(openings, now_s, until_s):
    """Moments at which one is opened by somebody who wants as many as possible."""
    moments = []
    while now_s < until_s:
        moments += [now_s] * openings.take(100, now_s)
        now_s = openings.next_s()
    return moments


def test_a_burst_then_ten_then_two_a_second():
    moments = opened_at(Openings(CEILING, 50.0), 50.0, 60.0)
    assert moments.count(50.0) == 20
    for start in range(50, 59):  # whatever second one looks at: the relay's own limits are twice as high
        assert sum(start < moment <= start + 1 for moment in moments) <= 10
    # 30 circuits and what comes in 10 s at 2 a second, but for the last one
    assert 30 + 19 <= len(moments) <= 30 + 20


def test_what_is_asked_for_is_no_more_than_what_is_taken():
    openings = Openings(CEILING, 0.0)
    assert openings.take(4, 0.0) == 4
    assert not openings.forgettable(0.0)
    assert openings.take(20, 0.0) == 16
    assert openings.take(1, 0.0) == 0
    assert openings.take(1, openings.next_s()) == 1
    assert openings.forgettable(60.0)


def test_circuits_that_were_created_twice_count_twice():
    openings = Openings(NetworkLimits(circuits_burst=5, circuits_per_s=1.0), 0.0)
    assert openings.take(4, 0.0) == 4
    for _ in range(4):
        openings.repeated(0.0)
    assert openings.take(4, 0.0) == 0
    assert openings.take(4, 2.0) == 0  # three more than there were
    assert openings.next_s() == 4.0
    assert openings.take(4, 4.0) == 1
    assert not openings.forgettable(8.5)
    assert openings.forgettable(9.0)


def test_a_consensus_may_allow_less():
    limits = NetworkLimits(connections_burst=3, connections_per_s=0.5, circuits_burst=5, circuits_per_s=0.25)
    assert opened_at(Openings(limits, 0.0), 0.0, 15.0) == [0.0, 0.0, 0.0, 2.0, 4.0, 6.0, 8.0, 12.0]


def test_what_one_measurement_used_up_the_next_one_lacks_whatever_its_limits():
    openings = Openings(CEILING.shared_by(2), 0.0)
    assert openings.take(20, 0.0) == 10
    openings.resize(CEILING, 0.1)
    assert openings.take(20, 0.1) == 0
    assert openings.take(20, 1.1) == 7  # of 15 circuits 10 are used up, and one came every second
    openings.resize(NetworkLimits(connections_burst=1), 60.0)
    assert openings.take(20, 60.0) == 1
