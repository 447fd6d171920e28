"""How many circuits and how much outstanding data a measurement uses: the one place that decides it."""

import math
from dataclasses import dataclass

from flashflow.model.network import CEILING, LEAST_CELLS, NetworkLimits
from flashflow.model.units import CELL_BYTES

QUEUE_DELAY_S = 0.1
"""Data kept outstanding beyond the round trip, seconds of rate (architecture: rules of counting)."""
CIRCUIT_CELLS = CEILING.circuit_cells
"""Most cells outstanding on a circuit, in echo mode as in loop mode."""
ECHO_SOCKETS_TEAM = 160
"""Most sockets that a whole team opens to one relay in echo mode (proposal 316, s = 160)."""
LOOP_CIRCUITS_MEASURER = 16
"""Most circuits, each its own connection, that one measurer builds to a relay in loop mode: what one more brings is
little, and those that are lost can be replaced within the network's limits."""
LOOP_OPENING_S = 2.0
"""All circuits of a loop measurement can be opened within this: half of what a measurer's Tor client waits for them."""
MIN_WINDOW_CELLS = LEAST_CELLS
"""Below this many outstanding cells a circuit only adds overhead: fewer circuits before smaller windows."""
LONG_PATH_S = 0.02
"""From this round trip on the window is spread over more circuits, each its own TCP connection, which opens slowly."""
SPREAD_CELLS = 16
"""A circuit's share of the window there: what TCP sends at once on a new connection (RFC 6928), with some to spare."""


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
    observed rate, how large the window is. Over how many circuits that is spread: `circuits_in_use`.
    """
    wanted = math.ceil(rate_bytes * (round_trip_s + QUEUE_DELAY_S) / CELL_BYTES)
    ceiling = limits.max_circuits * limits.circuit_cells
    window = max(MIN_WINDOW_CELLS, min(wanted, ceiling))
    needed = math.ceil(window / limits.circuit_cells)
    useful = max(1, window // MIN_WINDOW_CELLS)
    n_circs = max(needed, min(limits.min_circuits, useful, limits.max_circuits))
    return CircuitPlan(n_circs, window)


def is_long(round_trip_s: float) -> bool:
    """Whether a path is so long that what is not outstanding is missed."""
    return round_trip_s >= LONG_PATH_S


def circuits_in_use(window_cells: int, round_trip_s: float, limits: CircuitLimits) -> int:
    """Circuits over which a window is spread: as few as may be; on a long path as many as have something to do."""
    needed = max(1, math.ceil(window_cells / limits.circuit_cells))
    if not is_long(round_trip_s):
        return needed
    return max(needed, min(limits.max_circuits, window_cells // SPREAD_CELLS))


def echo_circuits(rate_bytes: float, round_trip_s: float, team_size: int) -> int:
    """Circuits that one of `team_size` measurers opens in echo mode for its share `rate_bytes` of the rate."""
    limits = CircuitLimits(max_circuits=max(1, ECHO_SOCKETS_TEAM // team_size), min_circuits=4)
    return plan_circuits(rate_bytes, round_trip_s, limits).n_circs


def loop_circuits(rate_bytes: float, round_trip_s: float, network: NetworkLimits) -> int:
    """Circuits that a measurer builds in loop mode for its share `rate_bytes`; the relay reads each cell twice."""
    most = min(
        LOOP_CIRCUITS_MEASURER,
        network.connections,
        int(network.connections_burst + LOOP_OPENING_S * network.connections_per_s),
        int(network.circuits_burst + LOOP_OPENING_S * network.circuits_per_s),
    )
    limits = CircuitLimits(most, network.circuit_cells, min_circuits=4)
    return min(most, plan_circuits(rate_bytes / 2, round_trip_s, limits).n_circs)
