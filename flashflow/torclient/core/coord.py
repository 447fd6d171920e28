"""The coordinator's side of a measurement: one circuit that carries the parameters and the background reports.

    BUILDING   link and circuit
    PARAMS     MEAS_PARAMS goes out, the answer is awaited: none means no FlashFlow support
    ACCEPTED   the controller's second call is awaited
    ACTIVE     background reports come

What the relay says in a phase where it may not is its fault: RELAY_PROTOCOL.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from flashflow.orlink.meas import VERSION, MeasParams, MeasurerSpec
from flashflow.torclient.core.effects import Announce, Effect, TellWorker
from flashflow.torclient.core.messages import (
    BackgroundCounted,
    CircuitBuilt,
    CircuitEnded,
    FromWorker,
    OpenCoord,
    ParamsAnswered,
    ParamsWereSent,
)
from flashflow.torclient.core.run import Run
from flashflow.torctl.commands import CoordStart, Target
from flashflow.torctl.events import BwReport, CircEvent, ParamsOk, ParamsSent
from flashflow.torctl.reasons import Reason


class Phase(StrEnum):
    """Where a measurement is."""

    BUILDING = "BUILDING"
    PARAMS = "PARAMS"
    ACCEPTED = "ACCEPTED"
    ACTIVE = "ACTIVE"


DEADLINES_S: Final[Mapping[Phase, tuple[float, Reason]]] = {
    Phase.BUILDING: (8.0, Reason.TIMEOUT),
    Phase.PARAMS: (5.0, Reason.NOT_SUPPORTED),
    Phase.ACCEPTED: (60.0, Reason.TIMEOUT),
    Phase.ACTIVE: (5.0, Reason.TIMEOUT),
}
"""Longest stay in a phase (in ACTIVE beyond the duration), and what it means to stay longer."""


class CoordRun(Run):
    """One measurement."""

    def __init__(self, command: CoordStart, *, run: int, conn: int, circ_id: int) -> None:
        super().__init__(command, run=run, conn=conn)
        self._command = command
        self._circ_id = circ_id
        self._phase = Phase.BUILDING
        self._seconds = 0
        self.circuits = {circ_id: False}

    def open(self, worker: int, now_s: float) -> list[Effect]:
        """Opens the circuit in `worker`."""
        command, target = self._command, self._command.target
        assert isinstance(target, Target)  # the core makes runs of commands with a target only
        specs = tuple(MeasurerSpec(one.token, one.sockets, (one.host, 0)) for one in command.measurers)
        params = MeasParams(VERSION, self.meas_id, command.dur_s, specs)
        self.workers.add(worker)
        self._enter(Phase.BUILDING, now_s)
        order = OpenCoord(
            run=self.run,
            circ_id=self._circ_id,
            host=target.address.host,
            port=target.address.port,
            fingerprint=command.fingerprint,
            ed25519=target.ed25519.hex(),
            ntor=target.ntor.hex(),
            params=params.encode().hex(),
        )
        return [TellWorker(worker, order)]

    def refusal(self) -> str | None:
        """Why the active phase cannot start now, or None."""
        if self._phase is Phase.ACCEPTED:
            return None
        return f"measurement {self.meas_id} is {self._phase.value}, not ACCEPTED"

    def start(self, now_s: float) -> Sequence[Effect]:
        """The second call: from now on background reports are legal."""
        self._enter(Phase.ACTIVE, now_s, self._command.dur_s)
        return []

    def take(self, worker: int, message: FromWorker, now_s: float) -> Sequence[Effect]:
        """What the worker said, on the relay's behalf or its own."""
        handler = _TABLE.get((self._phase, type(message)))
        return self.end(Reason.RELAY_PROTOCOL) if handler is None else handler(self, message, now_s)

    def late(self) -> Sequence[Effect]:
        """The deadline has passed."""
        return self.end(DEADLINES_S[self._phase][1])

    def _enter(self, phase: Phase, now_s: float, extra_s: float = 0) -> None:
        self._phase = phase
        self.deadline_s = now_s + extra_s + DEADLINES_S[phase][0]

    def _built(self, message: CircuitBuilt, now_s: float) -> list[Effect]:
        self.circuits[message.circ_id] = True
        self._enter(Phase.PARAMS, now_s)
        return [Announce(CircEvent(str(message.circ_id), "BUILT"))]

    def _sent(self, message: ParamsWereSent, now_s: float) -> list[Effect]:
        return [Announce(ParamsSent(self.meas_id))]

    def _answered(self, message: ParamsAnswered, now_s: float) -> list[Effect]:
        answer: list[Effect] = [Announce(ParamsOk(self.meas_id, message.reason is None, message.reason))]
        if message.reason is not None:
            return answer + self.end(message.reason)
        self._enter(Phase.ACCEPTED, now_s)
        return answer

    def _error(self, message: ParamsAnswered, now_s: float) -> list[Effect]:
        return self.end(message.reason or Reason.RELAY_PROTOCOL)

    def _background(self, message: BackgroundCounted, now_s: float) -> list[Effect]:
        self._seconds = max(self._seconds, message.second)
        report = BwReport(self.meas_id, message.second, message.sent_bytes, message.recv_bytes)
        effects: list[Effect] = [Announce(report)]
        return effects + self.end(None) if message.second >= self._command.dur_s else effects

    def _circuit_ended(self, message: CircuitEnded, now_s: float) -> list[Effect]:
        # "A close within the last second is normal": the report before the last one has come by then.
        complete = self._phase is Phase.ACTIVE and self._seconds >= self._command.dur_s - 1
        effects = self.circuit_ended(message.circ_id, message.reason)
        return effects + self.end(None if complete else message.reason)


_TABLE: Final[Mapping[tuple[Phase, type[Any]], Callable[[CoordRun, Any, float], list[Effect]]]] = {
    (Phase.BUILDING, CircuitBuilt): CoordRun._built,
    (Phase.BUILDING, CircuitEnded): CoordRun._circuit_ended,
    (Phase.PARAMS, ParamsWereSent): CoordRun._sent,
    (Phase.PARAMS, ParamsAnswered): CoordRun._answered,
    (Phase.PARAMS, CircuitEnded): CoordRun._circuit_ended,
    (Phase.ACCEPTED, ParamsAnswered): CoordRun._error,
    (Phase.ACCEPTED, CircuitEnded): CoordRun._circuit_ended,
    (Phase.ACTIVE, BackgroundCounted): CoordRun._background,
    (Phase.ACTIVE, ParamsAnswered): CoordRun._error,
    (Phase.ACTIVE, CircuitEnded): CoordRun._circuit_ended,
}
"""What may come in a phase, and what follows."""
