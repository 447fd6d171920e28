"""What happened: everything that the core hears of, besides torctl's events and TimerFired."""

from dataclasses import dataclass, field

from flashflow.directory.filter import RelayFilter
from flashflow.model.ids import Fingerprint, MeasId, Mode
from flashflow.model.network import ConsensusHeader
from flashflow.model.plan import PlanRow
from flashflow.model.relay import RelayInfo
from flashflow.model.results import MeasurementRecord, Standing
from flashflow.store.latest import LatestResult
from flashflow.wire.messages import Message


@dataclass(frozen=True, slots=True)
class InWork:
    """A measurement that had begun and not ended."""

    meas_id: MeasId
    """Its id."""
    fingerprint: Fingerprint
    """The relay."""
    nickname: str
    """The relay's nickname."""
    mode: Mode
    """How it is measured."""
    started_utc_s: float
    """When it was begun."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a restart has to know; kept in the store whenever it changes."""

    period_utc_s: float
    """Start of the period."""
    seed: str = field(repr=False)
    """The period's seed, hexadecimal; empty before it has a schedule."""
    stand_in: str = field(repr=False)
    """What replaces the shared random value in a network that has none, hexadecimal; empty for nothing."""
    in_work: tuple[InWork, ...]
    """Measurements that had begun."""
    layout: tuple[int, ...] = ()
    """What the slots of the plan are numbered by (Params.layout)."""


@dataclass(frozen=True, slots=True)
class Started:
    """The service came up; always the first event."""

    seed: bytes
    """32 bytes of entropy for every draw of this run."""
    results: tuple[LatestResult, ...]
    """Last results from the store."""
    failures: tuple[tuple[Fingerprint, int], ...]
    """Recent failures per relay from the store."""
    progress: Progress | None
    """What the last run left."""
    plan: tuple[PlanRow, ...] = ()
    """The period's plan as the last run left it."""
    secret: bytes = field(default=b"", repr=False)
    """The deployment's secret for its schedules."""
    standings: tuple[Standing, ...] = ()
    """What relays that made measurements fail did since their last result, from the store."""


@dataclass(frozen=True, slots=True)
class RelaysLoaded:
    """Consensus, descriptors and relay filter were read."""

    relays: tuple[RelayInfo, ...]
    """Every relay of the consensus."""
    relay_filter: RelayFilter
    """Which of them may be measured."""
    header: ConsensusHeader = field(default_factory=ConsensusHeader)
    """What the consensus says of the network."""


@dataclass(frozen=True, slots=True)
class RelayOffered:
    """A relay is new in the consensus, or again, and was inspected; RelayOutcome answers."""

    offer_id: int
    """Comes back in the answer."""
    fingerprint: Fingerprint
    """The relay."""


@dataclass(frozen=True, slots=True)
class RelayGone:
    """A relay has left the consensus, does not run any more, or may not be measured any more; RelayOutcome answers."""

    offer_id: int
    """Comes back in the answer."""
    fingerprint: Fingerprint
    """The relay."""
    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class RelaysFailed:
    """They could not be read; what was known before stays."""

    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class MeasurerJoined:
    """A measurer has a live session."""

    name: str
    """Its certificate's name."""
    capacity_bytes: int
    """What it may load relays with, cell bytes/s."""
    host: str
    """The address it came from."""


@dataclass(frozen=True, slots=True)
class MeasurerGone:
    """A measurer's session ended and was not resumed in time."""

    name: str
    """Its certificate's name."""
    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class MeasurerSaid:
    """A measurer sent a message."""

    name: str
    """Its certificate's name."""
    message: Message
    """Any well-formed message, perhaps one it may not send."""


@dataclass(frozen=True, slots=True)
class CtrlSaid:
    """A controller that has shown the cookie sent a line."""

    conn: int
    """Its connection."""
    line: str
    """Without the line end."""


@dataclass(frozen=True, slots=True)
class CtrlClosed:
    """A controller went away."""

    conn: int
    """Its connection."""


@dataclass(frozen=True, slots=True)
class MeasurementStored:
    """A record is on disk, with fsync."""

    meas_id: MeasId
    """Its measurement."""


@dataclass(frozen=True, slots=True)
class MeasurementNotStored:
    """A record could not be written."""

    meas_id: MeasId
    """Its measurement."""
    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class ProgressStored:
    """Plan and progress are on disk."""

    in_work: tuple[MeasId, ...]
    """The measurements that a restart knows to have begun."""


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """Plan and progress could not be written; the log has it."""

    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class ResultsRead:
    """The outcome of a ReadResults."""

    query_id: int
    """The query's id."""
    records: tuple[MeasurementRecord, ...]
    """Newest first."""
    error: str | None
    """Why there are none, if reading failed."""


@dataclass(frozen=True, slots=True)
class V3bwWritten:
    """The outcome of a WriteV3bw."""

    query_id: int
    """The query's id."""
    path: str | None
    """The file; None if there was nothing recent to publish, or an error."""
    relays: int
    """Relay lines in it."""
    error: str | None
    """Why it could not be written."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Drain: start nothing new, end when running measurements have."""
