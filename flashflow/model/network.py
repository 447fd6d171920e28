"""What a consensus says of the whole network, and how much of us a relay of that network bears.

A relay of stock tor refuses an address, some for a day, that connects or creates circuits faster than the consensus
allows, and closes a circuit whose queue grows beyond what it allows. Half of that is ours to use, for two measurers may
come from one address without our knowing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flashflow.model.relay import RelayInfo

SPARE_CONNECTIONS = 10
"""Of the connections that an address may have to a relay at once, so many are not ours."""
QUEUE_SHARE = 0.8
"""So much of the longest queue of a circuit is used."""
LEAST_CELLS = 8
"""A circuit needs a window of so many cells to be of use."""


@dataclass(frozen=True, slots=True)
class ConsensusHeader:
    """What a consensus says before its first relay."""

    valid_after_utc_s: float = 0.0
    """When it came into force; 0 if that is not known."""
    params: Mapping[str, int] = field(default_factory=dict)
    """The parameters that the authorities set."""
    shared_random_current: bytes | None = None
    """The shared random value of the current period, 32 bytes; None in a young network."""
    shared_random_previous: bytes | None = None
    """That of the period before."""


@dataclass(frozen=True, slots=True)
class Consensus:
    """A consensus, with what descriptors add to its relays."""

    header: ConsensusHeader
    """What it says of all of them."""
    relays: tuple[RelayInfo, ...]
    """Its relays, by fingerprint."""


@dataclass(frozen=True, slots=True)
class NetworkLimits:
    """What may be done to one relay in loop mode; as they stand, the most that is ever done (live network, 2024)."""

    connections: int = 40
    """Most connections at once, a circuit on each."""
    connections_burst: int = 20
    """Connections that may be opened at one moment."""
    connections_per_s: float = 10.0
    """Connections that may be opened a second after that."""
    circuits_burst: int = 30
    """Circuits that may be created at one moment."""
    circuits_per_s: float = 2.0
    """Circuits that may be created a second after that."""
    circuit_cells: int = 800
    """Most cells outstanding on a circuit."""

    def shared_by(self, measurers: int) -> "NetworkLimits":
        """What each of so many measurers may do that come from one address."""
        return NetworkLimits(
            connections=max(1, self.connections // measurers),
            connections_burst=max(1, self.connections_burst // measurers),
            connections_per_s=self.connections_per_s / measurers,
            circuits_burst=max(1, self.circuits_burst // measurers),
            circuits_per_s=self.circuits_per_s / measurers,
            circuit_cells=self.circuit_cells,
        )


CEILING = NetworkLimits()
"""No consensus raises the limits above these."""


def network_limits(params: Mapping[str, int]) -> NetworkLimits:
    """The limits for relays under the consensus parameters `params`.

    They are kept whether the defences are switched on or not; a parameter that is absent counts as in 2024, and one that
    is absurd leaves the least that is of any use.
    """

    def within(name: str, default: int, share: float, ceiling: float, spare: int = 0) -> float:
        return max(0.0, min(ceiling, share * (params.get(name, default) - spare)))

    connections = within("DoSConnectionMaxConcurrentCount", 50, 1, CEILING.connections, SPARE_CONNECTIONS)
    queues = [
        within("circ_max_cell_queue_size", 1250, QUEUE_SHARE, CEILING.circuit_cells),
        within("circ_max_cell_queue_size_out", 1000, QUEUE_SHARE, CEILING.circuit_cells),
    ]
    return NetworkLimits(
        connections=_at_least(1, connections),
        connections_burst=_at_least(
            1, within("DoSConnectionConnectBurst", 40, 0.5, CEILING.connections_burst)
        ),
        connections_per_s=max(0.5, within("DoSConnectionConnectRate", 20, 0.5, CEILING.connections_per_s)),
        circuits_burst=_at_least(1, within("DoSCircuitCreationBurst", 60, 0.5, CEILING.circuits_burst)),
        circuits_per_s=max(0.5, within("DoSCircuitCreationRate", 2, 1, CEILING.circuits_per_s)),
        circuit_cells=_at_least(LEAST_CELLS, min(queues)),
    )


def _at_least(least: int, value: float) -> int:
    return max(least, int(value))
