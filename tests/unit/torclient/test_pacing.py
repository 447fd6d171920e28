"""The window against a simulated relay: a queue that is served at a fixed rate."""

from collections import deque

import pytest

from flashflow.model.circuits import CIRCUIT_CELLS, LONG_PATH_S, SPREAD_CELLS
from flashflow.torclient.core.pacing import INITIAL_CELLS, INITIAL_CIRCUIT_CELLS, TICK_S, Pacer, SendWindow

MBIT_CELLS = 125_000 / 514
STEP_S = 0.001


class Bucket:
    """A relay's tokens: refilled every `refill_s` for what it served since, up to `burst_s` of its rate."""

    def __init__(self, cells_per_s, refill_s, burst_s):
        self._step_cells = cells_per_s * refill_s
        self._most_cells = max(burst_s * cells_per_s, self._step_cells)
        self._every = round(refill_s / STEP_S)
        self._cells = self._most_cells

    def serve(self, step, wanted):
        """What it lets pass."""
        if step % self._every == 0:
            self._cells = min(self._most_cells, self._cells + self._step_cells)
        count = min(self._cells, wanted)
        self._cells -= count
        return count


def simulate(
    *,
    relay_mbps,
    rate_mbps,
    round_trip_s,
    circuits,
    seconds,
    refill_s=STEP_S,
    burst_s=0.0,
    relay_stalls=(),
    our_stalls=(),
):
    """Windows per tick, queue in the relay in seconds of its rate per tick, cells echoed in the last second."""
    window = SendWindow(rate_bytes=rate_mbps * 125_000, round_trip_s=round_trip_s)
    pacer = Pacer(rate_mbps * 125_000, 0.0)
    relay_cells = relay_mbps * MBIT_CELLS
    sent = received = 0
    served, bucket = 0.0, Bucket(relay_cells, refill_s, burst_s)
    away: deque[tuple[float, int]] = deque()  # (when it is back, cells up to)
    probe = None
    plan, windows, queues, late, tick_s = None, [], [], 0, 0.0
    for step in range(round(seconds / STEP_S)):
        now = step * STEP_S
        if not any(begin <= now < end for begin, end in relay_stalls):
            served += bucket.serve(step, sent - served)
        away.append((now + round_trip_s, int(served)))
        if any(begin <= now < end for begin, end in our_stalls):
            continue
        while away and away[0][0] <= now:
            received = away.popleft()[1]
        if probe is not None and received >= probe[0]:
            window.note_round_trips(now - probe[1], None)
            probe = None
        if now >= tick_s:
            tick_s = now + TICK_S
            window.note_round_trips(None, None if probe is None else now - probe[1])
            plan = window.plan(now, received, circuits)
            windows.append(plan)
            queues.append((sent - served) / relay_cells)
        room = max(0, min(plan.window_cells - (sent - received), pacer.allowance(now)))
        pacer.spend(room)
        if room and probe is None:
            probe = (sent + room, now)
        sent += room
        if now < seconds - 1:
            late = received
    return windows, queues, (received - late) / MBIT_CELLS


@pytest.mark.parametrize("round_trip_s", [0.001, 0.05, 0.2])
def test_slow_relay_is_settled_within_the_warm_up_and_never_flooded(round_trip_s):
    windows, queues, mbps = simulate(
        relay_mbps=8, rate_mbps=900, round_trip_s=round_trip_s, circuits=80, seconds=6
    )
    assert max(queues) < 0.5
    assert max(queues[40:]) < 0.25  # after 2 s
    assert mbps == pytest.approx(8, rel=0.02)
    assert max(plan.n_circs for plan in windows) <= 2 or round_trip_s > LONG_PATH_S


@pytest.mark.parametrize(
    ("relay_mbps", "round_trip_s"), [(100, 0.001), (400, 0.02), (900, 0.001), (400, 0.1)]
)
def test_fast_relay_is_filled(relay_mbps, round_trip_s):
    _, queues, mbps = simulate(
        relay_mbps=relay_mbps, rate_mbps=2 * relay_mbps, round_trip_s=round_trip_s, circuits=80, seconds=5
    )
    assert mbps == pytest.approx(relay_mbps, rel=0.05)
    assert max(queues[40:]) < 0.25


def test_rate_is_kept_where_the_relay_is_faster():
    _, queues, mbps = simulate(relay_mbps=1000, rate_mbps=50, round_trip_s=0.01, circuits=10, seconds=4)
    assert mbps == pytest.approx(50, rel=0.02)
    assert max(queues) < 0.1


STALLS = ((3.0, 3.4), (6.0, 6.9), (9.2, 9.7))
"""What a busy machine does to a process."""


@pytest.mark.parametrize("round_trip_s", [0.007, 0.05, 0.1])
@pytest.mark.parametrize("refill_s", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("stalls", [{}, {"our_stalls": STALLS}, {"relay_stalls": STALLS}])
def test_a_stall_and_the_burst_after_it_leave_no_queue(round_trip_s, refill_s, stalls):
    """A relay that saved up a second of its rate, as tor's default is, serves what was held up at once."""
    _, queues, mbps = simulate(
        relay_mbps=4,
        rate_mbps=900,
        circuits=8,
        round_trip_s=round_trip_s,
        **{"refill_s": refill_s, "burst_s": 1.0, "seconds": 12, **stalls},
    )
    assert max(queues[40:]) < 0.25  # of all that goes on after the warm-up
    assert mbps == pytest.approx(4, rel=0.11)


LONG_START_CELLS = 80 * INITIAL_CIRCUIT_CELLS


@pytest.mark.parametrize(
    ("round_trip_s", "circuits", "cells"),
    [(0.007, 1, INITIAL_CELLS), (0.1, LONG_START_CELLS // SPREAD_CELLS, LONG_START_CELLS)],
)
def test_it_starts_small_on_few_circuits(round_trip_s, circuits, cells):
    plan = SendWindow(rate_bytes=1e9, round_trip_s=round_trip_s).plan(0.0, 0, 80)
    assert (plan.n_circs, plan.window_cells) == (circuits, cells)


def test_it_starts_with_no_more_than_the_allocated_rate_asks_for():
    plan = SendWindow(rate_bytes=50_000, round_trip_s=0.1).plan(0.0, 0, 80)
    assert plan.window_cells == 20


FIRST_FLIGHT_CELLS = 28
"""What TCP sends on a new connection before it hears of the other side (RFC 6928)."""


def far_mbps(link_mbps, circuits, round_trip_s, seconds, last_s):
    """What comes back in the last seconds over a link far away, on connections that open as TCP's do."""
    window = SendWindow(rate_bytes=None, round_trip_s=round_trip_s)
    sent, back, held = [0] * circuits, [0] * circuits, [0] * circuits
    opened, probes = [float(FIRST_FLIGHT_CELLS)] * circuits, [None] * circuits
    link: deque[list[int]] = deque()
    away: deque[tuple[float, int, int]] = deque()
    credit, tick_s, late = 0.0, 0.0, 0
    for step in range(round(seconds / STEP_S)):
        now = step * STEP_S
        while away and away[0][0] <= now:
            _, n, cells = away.popleft()
            back[n] += cells
            opened[n] += cells
            if probes[n] and back[n] >= probes[n][0]:
                window.note_round_trips(now - probes[n][1], None)
                probes[n] = None
        if now >= tick_s:
            tick_s = now + TICK_S
            for probe in filter(None, probes):
                window.note_round_trips(None, now - probe[1])
            plan = window.plan(now, sum(back), circuits)
        each = plan.window_cells // plan.n_circs
        for n in range(circuits):
            room = each - (sent[n] - back[n]) if n < plan.n_circs else 0
            if room > 0:
                probes[n] = probes[n] or (sent[n] + 1, now)
                sent[n] += room
                held[n] += room
            if ready := int(min(held[n], max(0, opened[n] - (sent[n] - held[n] - back[n])))):
                held[n] -= ready
                link.append([n, ready])
        credit = min(credit + link_mbps * MBIT_CELLS * STEP_S, 1e4)
        while link and credit >= 1:
            n, cells = link[0]
            passed = int(min(cells, credit))
            credit -= passed
            away.append((now + round_trip_s, n, passed))
            link[0][1] -= passed
            if not link[0][1]:
                link.popleft()
        credit = min(credit, 1.0) if not link else credit
        if now < seconds - last_s:
            late = sum(back)
    return (sum(back) - late) / MBIT_CELLS / last_s


@pytest.mark.parametrize(
    ("link_mbps", "circuits", "round_trip_s"),
    [(200, 40, 0.1), (50, 12, 0.1), (10, 4, 0.1), (200, 16, 0.2), (50, 12, 0.2)],
)
def test_a_far_link_is_filled_though_tcp_opens_slowly(link_mbps, circuits, round_trip_s):
    """In the first second that counts, and later."""
    for seconds, last_s in ((3, 1), (7, 2)):
        assert far_mbps(link_mbps, circuits, round_trip_s, seconds, last_s) == pytest.approx(
            link_mbps, rel=0.03
        )


def test_silence_does_not_open_the_window():
    window = SendWindow(rate_bytes=1e9, round_trip_s=0.1)
    plans = [window.plan(tick * TICK_S, 0, 80) for tick in range(100)]
    assert {plan.window_cells for plan in plans} == {LONG_START_CELLS}


def test_circuits_bound_the_window():
    window = SendWindow(rate_bytes=None, round_trip_s=0.001)
    received = 0
    for tick in range(60):
        plan = window.plan(tick * TICK_S, received, 2)
        received += 1_000_000
    assert (plan.n_circs, plan.window_cells) == (2, 2 * CIRCUIT_CELLS)


def test_pacer_forgets_what_was_not_used():
    pacer = Pacer(514_000, 10.0)
    assert pacer.allowance(10.0) == 0
    assert pacer.allowance(10.0105) == 10
    pacer.spend(10)
    assert pacer.allowance(10.0105) == 0
    assert pacer.allowance(99.0) == 50  # 50 ms, no more


def test_no_rate_is_no_limit():
    assert Pacer(None, 0.0).allowance(1.0) is None
