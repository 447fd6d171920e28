"""How fast a worker may send: the outstanding data that the relay's observed rate allows, and RATE.

The window starts small and doubles whenever a whole window came back, until the round trip shows that a queue builds
up; from then on `plan_circuits` gives it from the observed rate. So a relay 100 times slower than RATE is not flooded.
On a long path TCP's slow start would look like a queue: there the window is spread over many connections.
"""

from collections import deque
from statistics import median
from typing import Final

from flashflow.model.circuits import (
    CIRCUIT_CELLS,
    CircuitLimits,
    CircuitPlan,
    circuits_in_use,
    is_long,
    plan_circuits,
)
from flashflow.model.units import CELL_BYTES

TICK_S: Final = 0.05
"""How often the window is decided anew."""
INITIAL_CELLS: Final = 32
"""Outstanding cells at the start ..."""
INITIAL_CIRCUIT_CELLS: Final = 8
"""... or so many on each circuit of a long path, where every doubling takes its time: a third of what TCP sends at once."""
QUEUE_SIGN_S: Final = 0.05
"""A round trip this much above the shortest one shows a queue: half of what the window may hold."""
SIGN_SHARE: Final = 0.5
"""... and so much of the shortest round trip more: what slow start and schedulers on a long path add is no queue."""
MAX_NAP_S: Final = 0.025
"""Longest pause between two looks at the sockets."""
_SPAN_TICKS: Final = 4
"""A rate is taken over so many ticks."""
_RECENT_RATES: Final = 20
"""The highest of so many rates counts (1 s), so that a stall of an instant does not shrink the window ..."""
_KEPT_RATES: Final = 40
_MOST_OVER_USUAL: Final = 1.5
"""... but no more than this many times the median of the kept ones (2 s): after a stall a relay with a token bucket is three
times as fast for an instant, and a window made for that would stay as a queue, at worst beyond the last second."""
_YOUNG_RATES: Final = 4
"""Until there are so many since growth ended, the highest of the last few counts: what came before tells nothing."""
_BURST_S: Final = 0.05
_BURST_CELLS: Final = 16


class SendWindow:
    """Outstanding cells and circuits of one worker's share of a measurement."""

    def __init__(
        self, *, rate_bytes: float | None, round_trip_s: float, circuit_cells: int = CIRCUIT_CELLS
    ) -> None:
        self._circuit_cells = circuit_cells
        self._rate_bytes = rate_bytes
        self._round_trip_s = round_trip_s
        self._latest_s = 0.0
        self._cells = INITIAL_CELLS
        self._growing = True
        self._grown_at_cells = 0
        self._counts: deque[tuple[float, int]] = deque(maxlen=_SPAN_TICKS + 1)
        self._rates: deque[float] = deque(maxlen=_KEPT_RATES)

    def note_round_trips(self, answered_s: float | None, waiting_s: float | None) -> None:
        """For one circuit since the last plan: a cell came back after so long; one is away for so long already."""
        if answered_s is not None:
            self._round_trip_s = min(self._round_trip_s, answered_s)
        self._latest_s = max(self._latest_s, answered_s or 0.0, waiting_s or 0.0)

    def plan(self, now_s: float, received_cells: int, circuits: int) -> CircuitPlan:
        """Window and number of circuits, once per tick: `circuits` are open, `received_cells` came back so far."""
        limits = CircuitLimits(max(1, circuits), self._circuit_cells)
        self._observe(now_s, received_cells)
        if self._growing and self.is_long:
            self._cells = max(self._cells, INITIAL_CIRCUIT_CELLS * limits.max_circuits)
        sign_s = QUEUE_SIGN_S + SIGN_SHARE * self._round_trip_s
        if self._growing and self._latest_s - self._round_trip_s >= sign_s:
            self._growing = False
            self._rates = deque([self._rates[-1]], maxlen=_KEPT_RATES)
        self._latest_s = 0.0
        if received_cells - self._grown_at_cells >= self._cells:
            self._grown_at_cells = received_cells
            self._cells *= 2
        if not self._growing:
            self._cells = min(self._cells, self._window(self._observed_bytes(), limits))
        if self._rate_bytes is not None:
            self._cells = min(self._cells, self._window(self._rate_bytes, limits))
        self._cells = min(self._cells, limits.max_circuits * limits.circuit_cells)
        return CircuitPlan(circuits_in_use(self._cells, self._round_trip_s, limits), self._cells)

    @property
    def is_long(self) -> bool:
        """The path is so long that what is not outstanding is missed."""
        return is_long(self._round_trip_s)

    def nap_s(self) -> float:
        """How long echoes may be left to pile up: a quarter of what the window lasts, so that work comes in batches."""
        observed = self._observed_bytes() if self._rates else 0.0
        return min(MAX_NAP_S, 0.25 * self._cells * CELL_BYTES / observed) if observed else 0.0

    def _observed_bytes(self) -> float:
        """The rate that the relay shows, cell bytes/s."""
        if len(self._rates) < _KEPT_RATES:
            return max(list(self._rates)[-_YOUNG_RATES:])
        highest = max(list(self._rates)[-_RECENT_RATES:])
        return min(highest, _MOST_OVER_USUAL * median(self._rates))

    def _observe(self, now_s: float, received_cells: int) -> None:
        self._counts.append((now_s, received_cells))
        since_s, since_cells = self._counts[0]
        span_s = max(now_s - since_s, TICK_S)
        self._rates.append((received_cells - since_cells) * CELL_BYTES / span_s)

    def _window(self, rate_bytes: float, limits: CircuitLimits) -> int:
        return plan_circuits(rate_bytes, self._round_trip_s, limits).window_cells


class Pacer:
    """Cells that RATE allows to send: a token bucket that starts empty and holds 50 ms."""

    def __init__(self, rate_bytes: float | None, start_mono_s: float) -> None:
        self._rate_cells = None if rate_bytes is None else rate_bytes / CELL_BYTES
        self._filled_at_s = start_mono_s
        self._credit = 0.0

    def allowance(self, now_s: float) -> int | None:
        """Cells that may be sent now; None: no limit."""
        if self._rate_cells is None:
            return None
        most = max(_BURST_CELLS, self._rate_cells * _BURST_S)
        self._credit = min(most, self._credit + (now_s - self._filled_at_s) * self._rate_cells)
        self._filled_at_s = now_s
        return int(self._credit)

    def spend(self, cells: int) -> None:
        """So many were sent."""
        self._credit -= cells
