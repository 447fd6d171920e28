"""The relay's part in a measurement: admission, joining, running, reporting (proposal 316, 3.1.3 and 3.1.4).

    IDLE --MEAS_PARAMS--> ADMITTED --first MEAS_ECHO--> RUNNING --last report--> IDLE

Everything else ends a measurement early: the coordinator's link or circuit is lost, it sends MEAS_ERR, or no echo
traffic came in time.
"""

import hmac
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from flashflow.model.clock import Now, TimerFired
from flashflow.orlink.meas import MeasErr, MeasErrCode, MeasParams, MeasParamsOk, MeasurerSpec
from flashflow.relay.core.admission import AdmissionRules, Admissions
from flashflow.relay.core.effects import (
    BeginMeasuring,
    Close,
    CloseLink,
    Effect,
    EndMeasuring,
    ReportBackground,
    Role,
    SaveAccepted,
    SendMeasurement,
    SetRole,
)
from flashflow.relay.core.events import (
    CircuitGone,
    EchoBegan,
    ErrReceived,
    Event,
    JoinReceived,
    LinkLost,
    ParamsReceived,
)

REPORT_S: Final = 1.0


class Phase(StrEnum):
    """Where a measurement is."""

    ADMITTED = "admitted"  # MEAS_PARAMS_OK is sent, no echo cell has come yet
    RUNNING = "running"  # seconds are counted


@dataclass(slots=True)
class Measurement:
    """The one measurement under way."""

    link: int
    """The coordinator's link."""
    circ: int
    """The coordinator's circuit."""
    params: MeasParams
    """What was agreed."""
    since_s: float
    """When the phase began, monotonic."""
    phase: Phase = Phase.ADMITTED
    """Where it is."""
    reported: int = 0
    """Seconds reported so far."""
    seats: dict[int, int] = field(default_factory=dict)
    """Link that has joined -> index of its measurer in params."""


class State:
    """The relay's core. Nothing that a peer does makes it raise."""

    def __init__(
        self, rules: AdmissionRules, accepted: Mapping[bytes, Sequence[float]] | None = None
    ) -> None:
        """`accepted`: what earlier runs accepted, coordinator's certificate -> times, monotonic."""
        self._rules = rules
        self._admissions = Admissions(rules, accepted or {})
        self._meas: Measurement | None = None
        self._handlers: Mapping[type, Callable[[Any, Now], list[Effect]]] = {
            ParamsReceived: self._on_params,
            JoinReceived: self._on_join,
            EchoBegan: self._on_echo,
            ErrReceived: self._on_err,
            LinkLost: self._on_link_lost,
            CircuitGone: self._on_circuit_gone,
            TimerFired: self._on_timer,
        }

    @property
    def phase(self) -> Phase | None:
        """The phase of the measurement under way; None if there is none."""
        return self._meas.phase if self._meas else None

    def handle(self, event: Event, now: Now) -> list[Effect]:
        """Takes one event in and gives the effects in order."""
        return self._handlers[type(event)](event, now)

    def next_timer(self) -> float | None:
        """Monotonic time at which TimerFired is wanted, or None."""
        meas = self._meas
        if meas is None:
            return None
        if meas.phase is Phase.ADMITTED:
            return meas.since_s + self._rules.setup_s
        return meas.since_s + (meas.reported + 1) * REPORT_S

    def _on_params(self, event: ParamsReceived, now: Now) -> list[Effect]:
        busy = self._meas is not None
        code = self._admissions.refusal(event.certificate, event.params, busy, now.mono_s)
        if code is not None or event.params is None or event.certificate is None:
            answer = MeasErr(code or MeasErrCode.OTHER)
            return [
                SendMeasurement(event.link, event.circ, answer),
                *self._forget_own(event.link),
                CloseLink(event.link, Close.FLUSH, f"measurement refused: {answer.code.name}"),
            ]
        self._admissions.accept(event.certificate, now.mono_s)
        self._meas = Measurement(event.link, event.circ, event.params, now.mono_s)
        return [
            SaveAccepted(self._admissions.recent(now.mono_s)),
            SetRole(event.link, Role.COORDINATOR),
            SendMeasurement(event.link, event.circ, MeasParamsOk()),
        ]

    def _forget_own(self, link: int) -> list[Effect]:
        """A coordinator that breaks the protocol on its measurement's link loses the measurement with the link."""
        return self._end("its link is closed") if self._meas and self._meas.link == link else []

    def _on_join(self, event: JoinReceived, _now: Now) -> list[Effect]:
        fault = self._join_fault(event)
        if fault is not None:
            return [CloseLink(event.link, Close.DROP, f"MEAS_JOIN refused: {fault}")]
        return [SetRole(event.link, Role.MEASURER)]

    def _join_fault(self, event: JoinReceived) -> str | None:
        """Takes a seat for the link, or says why not."""
        meas = self._meas
        if meas is None or meas.params.meas_id != event.meas_id:
            return "no such measurement"
        if not event.first or event.link in meas.seats or event.link == meas.link:
            return "not the first cell of its link's only circuit"
        index = _find(meas.params.measurers, event.token)
        if index is None:
            return "wrong token"
        spec = meas.params.measurers[index]
        if not _may_come_from(spec, event.host):
            return f"it comes from {event.host}, {spec.address[0]} expected"
        if list(meas.seats.values()).count(index) >= spec.sockets:
            return f"more than {spec.sockets} sockets"
        meas.seats[event.link] = index
        return None

    def _on_echo(self, event: EchoBegan, now: Now) -> list[Effect]:
        meas = self._meas
        if meas is None or event.link not in meas.seats:
            return [CloseLink(event.link, Close.DROP, "MEAS_ECHO outside a measurement")]
        if meas.phase is Phase.RUNNING:
            return []
        meas.phase = Phase.RUNNING
        meas.since_s = now.mono_s
        return [BeginMeasuring()]

    def _on_err(self, event: ErrReceived, _now: Now) -> list[Effect]:
        close = CloseLink(event.link, Close.DROP, "the other side sent MEAS_ERR")
        if self._meas is not None and event.link == self._meas.link:
            return [*self._end("the coordinator sent MEAS_ERR"), close]
        return [close]

    def _on_link_lost(self, event: LinkLost, _now: Now) -> list[Effect]:
        if self._meas is None:
            return []
        if event.link == self._meas.link:
            return self._end("the coordinator's link is lost")
        self._meas.seats.pop(event.link, None)
        return []

    def _on_circuit_gone(self, event: CircuitGone, _now: Now) -> list[Effect]:
        meas = self._meas
        if meas is not None and (event.link, event.circ) == (meas.link, meas.circ):
            return self._end("the coordinator destroyed its circuit")
        if meas is not None and event.link in meas.seats:
            return [CloseLink(event.link, Close.DROP, "the measurer destroyed its circuit")]
        return []

    def _on_timer(self, _event: TimerFired, now: Now) -> list[Effect]:
        meas = self._meas
        if meas is None:
            return []
        if meas.phase is Phase.ADMITTED:
            late = now.mono_s >= meas.since_s + self._rules.setup_s
            return self._end(f"no echo traffic within {self._rules.setup_s:g} s") if late else []
        return self._report(meas, now)

    def _report(self, meas: Measurement, now: Now) -> list[Effect]:
        effects: list[Effect] = []
        while meas.reported < meas.params.duration_s and self._report_is_due(meas, now):
            meas.reported += 1
            effects.append(ReportBackground(meas.link, meas.circ, meas.reported))
        if meas.reported == meas.params.duration_s:
            effects += self._end("every second is reported")
        return effects

    def _report_is_due(self, meas: Measurement, now: Now) -> bool:
        return now.mono_s >= meas.since_s + (meas.reported + 1) * REPORT_S

    def _end(self, reason: str) -> list[Effect]:
        """Exits measurement mode: measurement links are closed, their buffered cells dropped."""
        meas = self._meas
        if meas is None:
            return []
        self._meas = None
        closing: list[Effect] = [
            CloseLink(link, Close.DROP, "the measurement is over") for link in meas.seats
        ]
        return [EndMeasuring(reason), *closing, SetRole(meas.link, Role.STRANGER)]


def _find(specs: tuple[MeasurerSpec, ...], token: bytes) -> int | None:
    """Index of the measurer with this token; all are compared, in constant time each."""
    matching = [index for index, spec in enumerate(specs) if hmac.compare_digest(spec.token, token)]
    return matching[0] if matching else None


def _may_come_from(spec: MeasurerSpec, host: str) -> bool:
    """Whether the address matches; one of zeros in the parameters allows any."""
    try:
        expected, found = ipaddress.ip_address(spec.address[0]), ipaddress.ip_address(host)
    except ValueError:
        return False
    return expected.is_unspecified or expected == found
