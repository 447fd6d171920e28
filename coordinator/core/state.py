"""What the coordinator knows: one State, changed only by the handlers."""

from dataclasses import dataclass, field
from typing import Literal

from coordinator.core.draw import Draw
from coordinator.core.estimate import Estimate
from coordinator.core.events import InWork, Progress
from coordinator.core.measurement import RUNNING, Measurement
from coordinator.core.params import Params
from coordinator.core.schedule import Schedule
from flashflow.directory.filter import Rule
from flashflow.model.ids import Fingerprint, MeasId, Mode
from flashflow.model.network import ConsensusHeader
from flashflow.model.plan import PlanRow
from flashflow.model.relay import RelayInfo
from flashflow.model.results import MeasurementRecord, Standing
from flashflow.store.latest import LatestResult

TorCommandPurpose = Literal["launch", "begin", "stop"]


@dataclass(slots=True)
class Measurer:
    """A measurer of the team."""

    name: str
    """Its certificate's name."""
    capacity_bytes: int
    """What it may load relays with, cell bytes/s."""
    host: str
    """The address it came from."""
    connected: bool = True
    """Its session lives."""
    leaving: bool = False
    """It said that it ends: it finishes what it has, and is given nothing new."""


@dataclass(slots=True)
class Request:
    """A measurement that waits for capacity."""

    meas_id: MeasId
    """Drawn already, so that a controller can name it."""
    fingerprint: Fingerprint
    """The relay."""
    mode: Mode
    """As the relay filter says."""
    scheduled: bool
    """By the slot timer; else a controller asked."""
    watchers: list[int] = field(default_factory=list)
    """Controllers that want to hear of it."""
    rates: dict[str, int] | None = None
    """What each measurer gives by the schedule, cell bytes/s; None to take it from what is free."""
    limited: bool = False
    """The schedule has no more for it, or the filter allows no more."""


@dataclass(slots=True)
class Period:
    """Each relay of the filter is measured once a period, in a slot of its schedule (planning.py)."""

    start_utc_s: float
    """Its start, Unix time; 0 before the first slot of a new deployment."""
    seed: bytes = field(default=b"", repr=False)
    """What its draws come from; empty before it has a schedule."""
    schedule: Schedule | None = None
    """Who has which slot; None until relays and a team are known."""
    team: dict[str, int] = field(default_factory=dict)
    """The capacities that the schedule counts with, cell bytes/s."""
    groups: dict[Fingerprint, int] = field(default_factory=dict)
    """The group of each relay that shares a slot with others."""
    runs: dict[Fingerprint, int] = field(default_factory=dict)
    """Measurements that were begun of each relay, whatever became of them and whoever asked."""
    done: dict[Fingerprint, None] = field(default_factory=dict)
    """Relays of which nothing more is planned, in order."""
    waiting: dict[Fingerprint, None] = field(default_factory=dict)
    """Relays that are due but have no slot, in order."""
    left_over: dict[Fingerprint, None] = field(default_factory=dict)
    """Relays that the last period had no room for: they come first."""
    stored: dict[Fingerprint, PlanRow] = field(default_factory=dict)
    """The slots that the last run of the service gave, until the schedule is taken up."""

    def due(self) -> list[Fingerprint]:
        """The relays that are still to be measured, beside those that are queued or in work."""
        placed = [placement.fingerprint for placement in self.schedule.placements()] if self.schedule else []
        return [*self.stored, *placed, *self.waiting]


@dataclass(slots=True)
class State:
    """Everything the coordinator knows."""

    params: Params
    """The deployment's parameters."""
    draw: Draw = field(default_factory=lambda: Draw(b""))
    """Draws; seeded by Started."""
    started_mono_s: float = 0.0
    """When the service came up."""
    relays: dict[Fingerprint, RelayInfo] = field(default_factory=dict)
    """The consensus, in its order."""
    header: ConsensusHeader = field(default_factory=ConsensusHeader)
    """What the consensus says of the network."""
    rules: dict[Fingerprint, Rule] = field(default_factory=dict)
    """The relay filter's rule for each relay that it names; none before it is loaded."""
    relays_error: str | None = None
    """Why relays or filter could not be read last time."""
    results: dict[Fingerprint, LatestResult] = field(default_factory=dict)
    """Each relay's last usable result."""
    failures: dict[Fingerprint, int] = field(default_factory=dict)
    """Recent failures per relay."""
    standings: dict[Fingerprint, Standing] = field(default_factory=dict)
    """What relays that made measurements fail did since their last result."""
    team: dict[str, Measurer] = field(default_factory=dict)
    """Every measurer that ever joined this run."""
    measurements: dict[MeasId, Measurement] = field(default_factory=dict)
    """Those in work."""
    left_behind: dict[MeasId, MeasurementRecord] = field(default_factory=dict)
    """Measurements in which the last run ended, until the store has them."""
    left_again_s: float | None = None
    """Monotonic time at which they are tried again, since the store failed."""
    given_up: dict[MeasId, Measurement] = field(default_factory=dict)
    """Those that the store did not take in time, and may yet take."""
    queue: list[Request] = field(default_factory=list)
    """Those that wait, first come first served."""
    secret: bytes = field(default=b"", repr=False)
    """The deployment's secret, which nobody can tell the schedule without."""
    stand_in: bytes = field(default=b"", repr=False)
    """Takes the place of the shared random value in a network that has none."""
    estimates: dict[Fingerprint, Estimate] = field(default_factory=dict)
    """What each relay can probably do."""
    usual_bytes: int = 0
    """The estimate of relays of which nothing is known, cell bytes/s."""
    hosts: dict[Fingerprint, tuple[Fingerprint, ...]] | None = None
    """Each relay that is co-located with others, and all of them; None until it is asked for."""
    raised: dict[Fingerprint, int] = field(default_factory=dict)
    """Estimates raised by results that were not accepted, cell bytes/s, until one is."""
    period: Period = field(default_factory=lambda: Period(0.0))
    """The current period."""
    changed_plan: dict[Fingerprint, None] = field(default_factory=dict)
    """Relays whose plan has changed since it was saved."""
    new_plan: bool = False
    """The whole plan has."""
    unsaved: bool = False
    """What progress() gives has changed."""
    save_again_s: float | None = None
    """Monotonic time at which plan and progress are stored again, of which the store lacks something."""
    next_slot_utc_s: float = 0.0
    """Start of the next slot."""
    tor_up: bool = False
    """The Tor client takes commands."""
    tor_commands: dict[int, tuple[MeasId, TorCommandPurpose]] = field(default_factory=dict)
    """Commands without a reply yet."""
    last_id: int = 0
    """Effect and query ids given out."""
    queries: dict[int, int] = field(default_factory=dict)
    """Query id -> controller that waits for it."""
    next_v3bw_s: float = 0.0
    """Monotonic time of the next periodic v3bw file."""
    next_refresh_s: float = 0.0
    """Monotonic time of the next reading of the directory."""
    v3bw_path: str | None = None
    """The newest v3bw file of this run."""
    draining: bool = False
    """Stop was requested."""
    stopped: bool = False
    """StopService was given."""

    def new_id(self) -> int:
        """The next effect or query id."""
        self.last_id += 1
        return self.last_id

    def new_meas_id(self) -> MeasId:
        """A random measurement id, 1..2^32-1, that nothing in work has."""
        while True:
            meas_id = MeasId(1 + self.draw.below("meas_id", 2**32 - 1))
            taken = (self.measurements, self.left_behind, self.given_up)
            if not any(meas_id in known for known in taken) and all(
                one.meas_id != meas_id for one in self.queue
            ):
                return meas_id

    def progress(self) -> Progress:
        """What a restart has to know."""
        in_work = [
            InWork(meas.meas_id, meas.relay.fingerprint, meas.relay.nickname, meas.mode, meas.begun.utc_s)
            for meas in self.measurements.values()
        ]
        in_work += [
            InWork(one.meas_id, one.fingerprint, one.nickname, one.mode, one.started_utc_s)
            for one in self.left_behind.values()
        ]
        seed, stand_in = self.period.seed.hex(), self.stand_in.hex()
        return Progress(self.period.start_utc_s, seed, stand_in, tuple(in_work), self.params.layout)

    def free_bytes(self, name: str) -> int:
        """What a measurer has left beside its running measurements, cell bytes/s."""
        used = sum(
            meas.shares[name].allocated_bytes
            for meas in self.measurements.values()
            if name in meas.shares and meas.phase in RUNNING
        )
        return max(0, self.team[name].capacity_bytes - used)

    def connected_team(self) -> list[Measurer]:
        """The measurers with a live session that stay: the team for what begins now. In order of name."""
        everyone = [self.team[name] for name in sorted(self.team)]
        return [measurer for measurer in everyone if measurer.connected and not measurer.leaving]

    def find_relay(self, text: str) -> RelayInfo | None:
        """A relay by fingerprint (`$` allowed) or by nickname, if just one has it."""
        bare = text.removeprefix("$").upper()
        if bare in self.relays:
            return self.relays[Fingerprint(bare)]
        named = [relay for relay in self.relays.values() if relay.nickname.lower() == text.lower()]
        return named[0] if len(named) == 1 else None


def refusal(state: State, relay: RelayInfo) -> str | None:
    """Why this relay may not be measured now, or None."""
    return refusal_by(state.rules.get(relay.fingerprint), relay)


def refusal_by(rule: Rule | None, relay: RelayInfo) -> str | None:
    """Why a relay of which the filter says this may not be measured, or None."""
    if rule is None or not rule.allow:
        return f"the relay filter does not allow {relay.nickname} {relay.fingerprint}"
    if not relay.measurable:
        return f"no descriptor with the keys of {relay.nickname} {relay.fingerprint} is known"
    return None
