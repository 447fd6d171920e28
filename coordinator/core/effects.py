"""What to do: everything that the core asks of the outputs."""

import logging
from dataclasses import dataclass
from typing import Any, Literal

from coordinator.core.events import Progress
from flashflow.model.ids import Fingerprint
from flashflow.model.plan import PlanRow
from flashflow.model.relay import RelayInfo
from flashflow.model.results import MeasurementRecord
from flashflow.torctl.client import SendTorCommand
from flashflow.wire.messages import Message


@dataclass(frozen=True, slots=True)
class SendToMeasurer:
    """Queue a message for a measurer."""

    name: str
    """Its certificate's name."""
    message: Message
    """The message."""


@dataclass(frozen=True, slots=True)
class SendToCtrl:
    """Send one line to a controller."""

    conn: int
    """Its connection; ignored if it is gone."""
    kind: Literal["OK", "ERR", "EVENT"]
    """The line's first word."""
    data: dict[str, Any]
    """The JSON object after it."""


@dataclass(frozen=True, slots=True)
class CloseCtrl:
    """Close a controller's connection after what was sent."""

    conn: int
    """Its connection."""


@dataclass(frozen=True, slots=True)
class SaveMeasurement:
    """Write a record, with fsync; MeasurementStored or MeasurementNotStored tells the outcome."""

    record: MeasurementRecord
    """The record."""
    if_absent: bool = False
    """A record of this measurement that is there already is the true one, and stays."""


@dataclass(frozen=True, slots=True)
class SaveProgress:
    """Remember what a restart has to know, all of it or nothing; ProgressStored or StoreFailed tells the outcome."""

    progress: Progress
    """Where the service is."""
    rows: tuple[PlanRow, ...]
    """The relays whose plan has changed."""
    whole: bool
    """These are all there are."""


@dataclass(frozen=True, slots=True)
class AnswerOffer:
    """What became of a relay that was offered, or that is gone."""

    offer_id: int
    """Of RelayOffered or RelayGone."""
    outcome: str
    """One line."""


@dataclass(frozen=True, slots=True)
class ShowPipeline:
    """Answer a controller with what the pipeline of relays does."""

    conn: int
    """The controller's connection."""


@dataclass(frozen=True, slots=True)
class ShowMeasurers:
    """Answer a controller with the team, beside what each one's session does."""

    conn: int
    """The controller's connection."""
    team: dict[str, Any]
    """The answer as far as the core knows it."""


@dataclass(frozen=True, slots=True)
class LogRefusal:
    """Tell the operator that a measurer's message was refused; whoever repeats it must not fill the log."""

    name: str
    """The measurer."""
    reason: str
    """One line."""


@dataclass(frozen=True, slots=True)
class ReadResults:
    """Read stored measurements; ResultsRead tells the outcome."""

    query_id: int
    """Comes back in ResultsRead."""
    fingerprint: Fingerprint | None
    """Only this relay's."""
    limit: int
    """At most so many, the newest."""


@dataclass(frozen=True, slots=True)
class WriteV3bw:
    """Write a v3bw file; V3bwWritten tells the outcome."""

    query_id: int
    """Comes back in V3bwWritten."""
    relays: dict[Fingerprint, RelayInfo]
    """What is known of the relays."""


@dataclass(frozen=True, slots=True)
class LoadRelays:
    """Read consensus, descriptors and filter; RelaysLoaded or RelaysFailed tells the outcome."""


@dataclass(frozen=True, slots=True)
class Log:
    """Write a log line."""

    level: int
    """As in the logging module."""
    text: str
    """One line, no secrets."""


@dataclass(frozen=True, slots=True)
class StopService:
    """Everything has ended: leave."""


Effect = (
    SendToMeasurer
    | SendTorCommand
    | SendToCtrl
    | CloseCtrl
    | SaveMeasurement
    | SaveProgress
    | AnswerOffer
    | ShowPipeline
    | ShowMeasurers
    | LogRefusal
    | ReadResults
    | WriteV3bw
    | LoadRelays
    | Log
    | StopService
)


def info(text: str) -> Log:
    """A log line of level INFO."""
    return Log(logging.INFO, text)


def warn(text: str) -> Log:
    """A log line of level WARNING."""
    return Log(logging.WARNING, text)
