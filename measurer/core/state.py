"""Everything that the measurer knows."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from flashflow.model.ids import MeasId
from measurer.core.measurement import Measurement, Phase

LINK_LOST_S = 5.0
"""Without a live session for so long, all traffic stops."""
MAX_EARLY_CIRCUITS = 1024


class Networks(Protocol):
    """Which addresses may be sent to; the configuration's `AllowedNetworks` is one."""

    def allows(self, host: str) -> bool:
        """Whether `host`, an IP address or anything else, may be measured."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What this measurer's own configuration allows, whatever the coordinator asks."""

    max_rate_bytes: int
    """Cell bytes/s over all measurements together."""
    allowed_networks: Networks
    """Relays' addresses that may be sent to."""
    bucket_cells: int
    """One echoed cell of so many is checked."""
    loops: bool = True
    """Loop measurements are taken on: far ends can be started."""


class Call(Enum):
    """What a command to the Tor client was for."""

    LAUNCH = "launch"
    START = "start"
    STOP = "stop"


@dataclass(slots=True)
class State:
    """Changed by the core's handlers only."""

    limits: Limits
    """The configuration's."""
    measurements: dict[MeasId, Measurement] = field(default_factory=dict)
    """In the order in which they began."""
    calls: dict[int, tuple[MeasId, Call]] = field(default_factory=dict)
    """Effect id -> the measurement, for commands that were not answered yet."""
    early_circuits: dict[str, tuple[bool, str | None]] = field(default_factory=dict)
    """Circuit -> built or not, and why: events that came before the reply which says whose circuit it is."""
    last_effect_id: int = 0
    """Of SendTorCommand and StartFarEnd."""
    tor_up: bool = False
    """The Tor client takes commands."""
    linked: bool = False
    """The session with the coordinator is live."""
    link_lost_s: float | None = None
    """Monotonic time at which the session counts as lost; None while it is live or was given up."""
    draining: bool = False
    """No new measurements; ends when none is left."""
    ended: bool = False
    """StopService was given."""

    def committed_bytes(self) -> int:
        """Rate of all measurements together, cell bytes/s; what is being stopped, or has reported its last second, sends
        no more: the coordinator may have begun the next one before the Tor client told the end."""
        return sum(
            meas.order.rate_bytes
            for meas in self.measurements.values()
            if meas.phase is not Phase.STOPPING and meas.seconds < meas.order.dur_s
        )
