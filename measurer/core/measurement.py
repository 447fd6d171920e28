"""One measurement: its phases as a table, what the coordinator may say in which phase, its deadlines.

This is the only file that changes a phase. An unlisted pair of phase and trigger is a bug of ours and raises; what the
coordinator and the Tor client may send is `GO_LEGAL` and `TOR_LEGAL`, checked before anything is triggered.
"""

from dataclasses import dataclass, field
from enum import Enum

from flashflow.model import timing
from flashflow.model.clock import Now
from flashflow.torctl import events as tor
from flashflow.torctl.reasons import FORGERIES
from flashflow.wire.messages import ConnectToRelay


class Phase(Enum):
    """Where a measurement is."""

    PREPARING = "preparing"  # loop mode only: its far end is being started
    LAUNCHING = "launching"  # the Tor client was told to launch circuits
    BUILDING = "building"  # the circuits are being built
    READY = "ready"  # the coordinator was told; its Go is awaited
    STARTING = "starting"  # the Tor client was told to send
    ACTIVE = "active"  # traffic
    STOPPING = "stopping"  # the Tor client was told to stop; its end is awaited


class Trigger(Enum):
    """What moves a measurement on."""

    PREPARED = "prepared"
    LAUNCHED = "launched"
    BUILT = "built"
    GONE_AHEAD = "gone ahead"
    STARTED = "started"
    STOPPED = "stopped"


TRANSITIONS: dict[tuple[Phase, Trigger], Phase] = {
    (Phase.PREPARING, Trigger.PREPARED): Phase.LAUNCHING,
    (Phase.PREPARING, Trigger.STOPPED): Phase.STOPPING,
    (Phase.LAUNCHING, Trigger.LAUNCHED): Phase.BUILDING,
    (Phase.LAUNCHING, Trigger.STOPPED): Phase.STOPPING,
    (Phase.BUILDING, Trigger.BUILT): Phase.READY,
    (Phase.BUILDING, Trigger.STOPPED): Phase.STOPPING,
    (Phase.READY, Trigger.GONE_AHEAD): Phase.STARTING,
    (Phase.READY, Trigger.STOPPED): Phase.STOPPING,
    (Phase.STARTING, Trigger.STARTED): Phase.ACTIVE,
    (Phase.STARTING, Trigger.STOPPED): Phase.STOPPING,
    (Phase.ACTIVE, Trigger.STOPPED): Phase.STOPPING,
}

DEADLINES_S: dict[Phase, float] = {
    Phase.PREPARING: 10.0,
    Phase.LAUNCHING: 4.0,
    Phase.BUILDING: 9.0,
    Phase.READY: 30.0,  # other measurers may still build, and the coordinator's Tor client has to start
    Phase.STARTING: 5.0,
    Phase.ACTIVE: 6.0,  # beyond warm-up and duration; the Tor client itself stops after 5
    Phase.STOPPING: 5.0,
}
"""Phase -> seconds after which it is over, whatever came."""

SETUP_S = timing.SETUP_S - 1.0
"""PREPARING, LAUNCHING and BUILDING together: less than the coordinator's CONNECTING, so that half the circuits still
count. In loop mode that is all of its set-up: a far end is a new process, which on a busy machine takes seconds."""
ECHO_SETUP_S = 9.0
"""The same in echo mode, where the coordinator's own circuit came first."""
SETTING_UP = frozenset({Phase.PREPARING, Phase.LAUNCHING, Phase.BUILDING})

GO_LEGAL = frozenset({Phase.READY})
"""The phases in which the coordinator may say Go."""

TOR_LEGAL: dict[type, frozenset[Phase]] = {
    tor.BwReport: frozenset({Phase.STARTING, Phase.ACTIVE}),  # the first may overtake the reply
    tor.MeasEnd: frozenset(Phase),
}
"""FF_MEAS event -> the phases in which the Tor client may send it."""


@dataclass(slots=True)
class Measurement:
    """The measurer's part of one measurement."""

    order: ConnectToRelay
    """What the coordinator asked for; holds the token."""
    phase: Phase
    """Changed by enter() only."""
    deadline_s: float
    """Monotonic time at which the phase is over."""
    begun_s: float
    """Monotonic time at which it began."""
    far_end_id: int | None = None
    """Effect id of its far end; None if it has none, or none any more."""
    circuits: dict[str, bool | None] = field(default_factory=dict)
    """Circuit -> built (True), failed (False), under way (None)."""
    circuit_reason: str | None = None
    """REASON of the last circuit that failed; a forgery stays."""
    seconds: int = 0
    """Reports forwarded."""

    def note_circuit_reason(self, reason: str | None) -> None:
        """A circuit ended, or is built and has none."""
        if reason is not None and self.circuit_reason not in FORGERIES:
            self.circuit_reason = reason

    @property
    def built(self) -> int:
        """Circuits that are built."""
        return sum(state is True for state in self.circuits.values())

    @property
    def building(self) -> int:
        """Circuits that are under way."""
        return sum(state is None for state in self.circuits.values())

    @property
    def has_enough(self) -> bool:
        """Whether at least half of the circuits asked for are built (proposal 316, 3.2.1)."""
        return self.built > 0 and 2 * self.built >= self.order.n_circs


def begin(order: ConnectToRelay, now: Now) -> Measurement:
    """A measurement in its first phase."""
    phase = Phase.PREPARING if order.mode == "loop" else Phase.LAUNCHING
    return Measurement(order, phase, now.mono_s + DEADLINES_S[phase], now.mono_s)


def enter(meas: Measurement, trigger: Trigger, now: Now) -> None:
    """Move on by `trigger`. KeyError for a pair that is not in the table, which is a bug."""
    meas.phase = TRANSITIONS[meas.phase, trigger]
    traffic_s = meas.order.warmup_s + meas.order.dur_s if meas.phase is Phase.ACTIVE else 0
    meas.deadline_s = now.mono_s + DEADLINES_S[meas.phase] + traffic_s
    if meas.phase in SETTING_UP:
        setup_s = SETUP_S if meas.order.mode == "loop" else ECHO_SETUP_S
        meas.deadline_s = min(meas.deadline_s, meas.begun_s + setup_s)
