"""How many circuits and how much outstanding data a measurement uses: the one place that decides it."""

import math
from dataclasses import dataclass

from flashflow.model.units import CELL_BYTES

QUEUE_DELAY_S = 0.1
"""Data kept outstanding beyond the round trip, seconds of rate (architecture: rules of counting)."""
CIRCUIT_CELLS = 800
"""Most cells outstanding on a circuit: 0.8 of the live network's circ_max_cell_queue_size_out of 1000."""
ECHO_SOCKETS_TEAM = 160
"""Most sockets that a whole team opens to one relay in echo mode (proposal 316, s = 160)."""
LOOP_CIRCUITS_MEASURER = 16
"""Most circuits, each its own connection, that one measurer builds to a relay in loop mode: they fit into the live
network's bursts of 40 connections and 60 circuits (2024) for two measurers at one address, with some to spare."""
MIN_WINDOW_CELLS = 8
"""Below this many outstanding cells a circuit only adds overhead: fewer circuits before smaller windows."""


@dataclass(frozen=True, slots=True)
class CircuitLimits:
    """What bounds a plan."""

    max_circuits: int
    """Most circuits (each its own connection in echo mode) that may be opened, 1 or more."""
    circuit_cells: int = CIRCUIT_CELLS
    """Most cells outstanding on one circuit."""
    min_circuits: int = 1
    """Fewest circuits to open where the relay's own rate is still unknown."""


@dataclass(frozen=True, slots=True)
class CircuitPlan:
    """Circuits and windows for one party of one measurement."""

    n_circs: int
    """Circuits over which the window is spread evenly."""
    window_cells: int
    """Outstanding cells over all these circuits together."""


def plan_circuits(rate_bytes: float, round_trip_s: float, limits: CircuitLimits) -> CircuitPlan:
    """Circuits and window for `rate_bytes` (cell bytes/s) over a path of `round_trip_s`.

    Outstanding data W = rate x (round trip + 0.1 s); it may exceed that only as far as the smallest useful window of
    one circuit asks for. Called with the allocated rate it says how many circuits to open; called with the
    observed rate it says how many of them to use, and the window.
    """
    wanted = math.ceil(rate_bytes * (round_trip_s + QUEUE_DELAY_S) / CELL_BYTES)
    ceiling = limits.max_circuits * limits.circuit_cells
    window = max(MIN_WINDOW_CELLS, min(wanted, ceiling))
    needed = math.ceil(window / limits.circuit_cells)
    useful = max(1, window // MIN_WINDOW_CELLS)
    n_circs = max(needed, min(limits.min_circuits, useful, limits.max_circuits))
    return CircuitPlan(n_circs, window)


def echo_circuits(rate_bytes: float, round_trip_s: float, team_size: int) -> int:
    """Circuits that one of `team_size` measurers opens in echo mode for its share `rate_bytes` of the rate."""
    limits = CircuitLimits(max_circuits=max(1, ECHO_SOCKETS_TEAM // team_size), min_circuits=4)
    return plan_circuits(rate_bytes, round_trip_s, limits).n_circs


def loop_circuits(rate_bytes: float, round_trip_s: float, team_size: int) -> int:
    """Circuits that a measurer builds in loop mode for its share `rate_bytes`; the relay reads each cell twice."""
    limits = CircuitLimits(max_circuits=LOOP_CIRCUITS_MEASURER, min_circuits=4)
    return plan_circuits(rate_bytes / 2, round_trip_s, limits).n_circs
