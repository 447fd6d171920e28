"""One measurement: its phases as a table, what each party may send in which phase, its deadlines.

This is the only file that changes a phase. An unlisted pair of phase and trigger is a bug of ours and raises; what a
peer may send is `MEASURER_LEGAL` and `TOR_LEGAL`, checked before anything is triggered.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from coordinator.core.estimate import Estimate
from coordinator.core.params import Params
from flashflow.model.clock import Now
from flashflow.model.ids import MeasId, Mode
from flashflow.model.relay import RelayInfo
from flashflow.model.reports import SecondReport
from flashflow.model.results import Failure, MeasurementRecord
from flashflow.model.timing import DRAIN_S, SETUP_S
from flashflow.torctl import events as tor
from flashflow.wire import messages as wire


class Phase(Enum):
    """Where a measurement is."""

    RECORDING = "recording"  # the store is told that it begins; nobody else has heard of it
    LAUNCHING = "launching"  # the Tor client was told to launch the coordinator's circuit
    PARAMS = "params"  # circuit and MEAS_PARAMS under way, the relay's answer awaited
    CONNECTING = "connecting"  # the measurers build their circuits
    STARTING = "starting"  # the Tor client was told that the active phase begins
    ACTIVE = "active"  # traffic; ends when every report is in
    SAVING = "saving"  # the record is being written
    ENDED = "ended"


class Trigger(Enum):
    """What moves a measurement on."""

    LAUNCH = "launch"
    CONNECT = "connect"
    LAUNCHED = "launched"
    ACCEPTED = "accepted"
    ALL_CONNECTED = "all connected"
    BEGUN = "begun"
    COMPLETED = "completed"
    FAILED = "failed"
    STORED = "stored"


TRANSITIONS: dict[tuple[Phase, Trigger], Phase] = {
    (Phase.RECORDING, Trigger.LAUNCH): Phase.LAUNCHING,
    (Phase.RECORDING, Trigger.CONNECT): Phase.CONNECTING,  # loop: there is no coordinator's circuit
    (Phase.RECORDING, Trigger.FAILED): Phase.SAVING,
    (Phase.LAUNCHING, Trigger.LAUNCHED): Phase.PARAMS,
    (Phase.LAUNCHING, Trigger.FAILED): Phase.SAVING,
    (Phase.PARAMS, Trigger.ACCEPTED): Phase.CONNECTING,
    (Phase.PARAMS, Trigger.FAILED): Phase.SAVING,
    (Phase.CONNECTING, Trigger.ALL_CONNECTED): Phase.STARTING,
    (Phase.CONNECTING, Trigger.BEGUN): Phase.ACTIVE,  # loop: the relay need not be told
    (Phase.CONNECTING, Trigger.FAILED): Phase.SAVING,
    (Phase.STARTING, Trigger.BEGUN): Phase.ACTIVE,
    (Phase.STARTING, Trigger.FAILED): Phase.SAVING,
    (Phase.ACTIVE, Trigger.COMPLETED): Phase.SAVING,
    (Phase.ACTIVE, Trigger.FAILED): Phase.SAVING,
    (Phase.SAVING, Trigger.STORED): Phase.ENDED,
}

DEADLINES: dict[Phase, Callable[[Params], float]] = {
    Phase.RECORDING: lambda params: 10.0,
    Phase.LAUNCHING: lambda params: 5.0,
    Phase.PARAMS: lambda params: 10.0,
    Phase.CONNECTING: lambda params: SETUP_S,
    Phase.STARTING: lambda params: 5.0,
    Phase.ACTIVE: lambda params: params.warmup_s + params.duration_s + DRAIN_S,
    Phase.SAVING: lambda params: 60.0,
}
"""Phase -> seconds after which it has failed; the set-up phases, which come after RECORDING, have SETUP_S together."""

GRACE_S = 1.0
"""So long the Tor client's own reason is awaited once a circuit has closed, or a measurer has blamed the relay."""

SETTING_UP = frozenset({Phase.LAUNCHING, Phase.PARAMS, Phase.CONNECTING, Phase.STARTING})
"""The phases before the traffic in which others have a part."""

KNOWN = SETTING_UP | {Phase.ACTIVE}
"""The phases in which others have a part."""

RUNNING = KNOWN | {Phase.RECORDING}
"""The phases in which a measurement can still fail."""

MEASURER_LEGAL: dict[type, frozenset[Phase]] = {
    wire.ConnectedToRelay: frozenset({Phase.CONNECTING}),
    wire.BwReport: frozenset({Phase.ACTIVE}),
    wire.Failure: KNOWN,
}
"""Message -> the phases in which a participant may send it; while SAVING anything is too late, not wrong."""

TOR_LEGAL: dict[type, frozenset[Phase]] = {
    tor.ParamsSent: frozenset({Phase.LAUNCHING, Phase.PARAMS}),
    tor.ParamsOk: frozenset({Phase.LAUNCHING, Phase.PARAMS}),  # it may overtake the reply to the launch
    tor.BwReport: frozenset({Phase.ACTIVE}),
    tor.MeasEnd: KNOWN,
}
"""FF_MEAS event -> the phases in which the Tor client may send it."""


@dataclass(slots=True)
class Share:
    """One measurer's part."""

    name: str
    """Its certificate's name."""
    host: str
    """The address it came from."""
    allocated_bytes: int
    """Cell bytes/s it loads the relay with."""
    n_circs: int
    """Circuits it builds."""
    token: bytes
    """16 bytes that admit it to the relay; secret."""
    connected: bool = False
    """It said ConnectedToRelay."""
    reports: dict[int, SecondReport] = field(default_factory=dict)
    """Its reports by second, without gaps."""
    failure: Failure | None = None
    """Why its part ended before its last report."""


@dataclass(slots=True)
class Measurement:
    """One measurement in work."""

    meas_id: MeasId
    """1..2^32-1, unique among those in work."""
    relay: RelayInfo
    """The relay as it was known when this began."""
    mode: Mode
    """`echo` (set up from LAUNCHING on) or `loop` (no coordinator's circuit: from CONNECTING on)."""
    begun: Now
    """When it began."""
    scheduled: bool
    """By the slot timer in the current period: its end changes the plan. Else a controller asked."""
    shares: dict[str, Share]
    """The measurers by name, in order of name."""
    estimate: Estimate
    """What it could probably do when this began."""
    limited: bool
    """There is no more to load it with."""
    phase: Phase = Phase.RECORDING
    """Changed by advance() only."""
    recorded_s: float | None = None
    """Monotonic time at which it was on disk that it begins: the set-up begins then."""
    deadline_s: float = 0.0
    """Monotonic time at which the phase has failed."""
    early_answer: tor.ParamsOk | None = None
    """The relay's answer, if it came while LAUNCHING."""
    circ_id: str | None = None
    """The coordinator's circuit, once known."""
    started: Now | None = None
    """When Go was sent; the warm-up begins then."""
    background: dict[int, SecondReport] = field(default_factory=dict)
    """The relay's reports by second 1..D (its own number less the warm-up)."""
    last_background: tuple[int, int, int] = (0, 0, 0)
    """The relay's newest report: its own number, sent, received."""
    relay_ended: bool = False
    """The relay or the Tor client said that it is over."""
    shown_second: int = 0
    """The last second that watchers were told of."""
    suspicion: Failure | None = None
    """Why it fails at its deadline, while the Tor client is awaited, which may know better (see `suspect`)."""
    failure: Failure | None = None
    """Why it failed."""
    record: MeasurementRecord | None = None
    """What is being saved."""
    save_again_s: float | None = None
    """Monotonic time at which a record that could not be stored is tried again."""
    watchers: list[int] = field(default_factory=list)
    """Controllers that want to hear of it."""

    def advance(self, trigger: Trigger, now: Now, params: Params) -> None:
        """Change the phase. Raises KeyError for a pair that is not in the table: a bug."""
        if self.phase is Phase.RECORDING and trigger is not Trigger.FAILED:
            self.recorded_s = now.mono_s
        self.phase = TRANSITIONS[self.phase, trigger]
        self.set_deadline(now, params)

    def set_deadline(self, now: Now, params: Params) -> None:
        """The deadline of the phase that begins now; a suspicion keeps its own."""
        if self.suspicion is not None and self.phase in RUNNING:
            return
        limit_s = DEADLINES[self.phase](params) if self.phase in DEADLINES else 0.0
        self.deadline_s = now.mono_s + limit_s
        if self.phase in SETTING_UP and self.recorded_s is not None:
            self.deadline_s = min(self.deadline_s, self.recorded_s + SETUP_S)

    def suspect(self, failure: Failure, now: Now) -> None:
        """Fail with `failure` unless the Tor client says within GRACE_S what happened; the first suspicion counts.

        Of one event several are told: when the coordinator's Tor client dies, the relay ends the measurement for all,
        and a measurer's word of that may be here first.
        """
        if self.suspicion is None:
            self.suspicion = failure
            self.deadline_s = min(self.deadline_s, now.mono_s + GRACE_S)

    @property
    def allocated_bytes(self) -> int:
        """Sum of the allocations, cell bytes/s."""
        return sum(share.allocated_bytes for share in self.shares.values())

    @property
    def unfinished(self) -> list[Share]:
        """Shares whose part goes on."""
        return [share for share in self.shares.values() if share.failure is None]
