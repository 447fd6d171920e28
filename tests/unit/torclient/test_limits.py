"""How fast circuits to one relay are opened, on a hand-driven clock."""

from flashflow.torclient.core.limits import CONNECTIONS_BURST, CREATES_BURST, Openings


def opened_at(openings, now_s, until_s):
    """Moments at which one is opened by somebody who wants as many as possible."""
    moments = []
    while now_s < until_s:
        moments += [now_s] * openings.take(100, now_s)
        now_s = openings.next_s()
    return moments


def test_a_burst_then_ten_then_two_a_second():
    moments = opened_at(Openings(50.0), 50.0, 60.0)
    assert moments.count(50.0) == CONNECTIONS_BURST
    for start in range(50, 59):  # whatever second one looks at: the relay's own limits are twice as high
        assert sum(start < moment <= start + 1 for moment in moments) <= 10
    # 30 circuits and what comes in 10 s at 2 a second, but for the last one
    assert CREATES_BURST + 19 <= len(moments) <= CREATES_BURST + 20


def test_what_is_asked_for_is_no_more_than_what_is_taken():
    openings = Openings(0.0)
    assert openings.take(4, 0.0) == 4
    assert not openings.forgettable(0.0)
    assert openings.take(20, 0.0) == 16
    assert openings.take(1, 0.0) == 0
    assert openings.take(1, openings.next_s()) == 1
    assert openings.forgettable(60.0)
