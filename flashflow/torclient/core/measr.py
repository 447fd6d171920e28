"""A measurer's side of a measurement: circuits are built, traffic runs, seconds are reported.

PROBING    the first circuit alone: the relay must prove its identity before more connections are opened
BUILDING   the other circuits
READY      the controller's second call is awaited
ACTIVE     traffic

In loop mode the relay reads each cell twice: RATE and reports, which are what it reads, are twice what the workers send
and count. Circuits are then opened no faster than `limits` allows, none after the relay has refused one, and those lost
in ACTIVE are replaced (`replacing`). In echo mode the relay admits so many connections and no more: a lost one stays lost,
and it goes on with at least half of the circuits.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from flashflow.model.network import CEILING
from flashflow.model.reports import SecondReport
from flashflow.torclient.core.effects import Announce, Effect, Log, TellWorker
from flashflow.torclient.core.limits import Openings
from flashflow.torclient.core.messages import (
    Begin,
    CircuitBuilt,
    CircuitEnded,
    CreateRepeated,
    FromWorker,
    OpenCircuits,
    SecondCounted,
    ShareEnded,
)
from flashflow.torclient.core.replacing import REFUSALS, Replacements
from flashflow.torclient.core.run import Run
from flashflow.torclient.core.seconds import SecondSums
from flashflow.torctl.commands import MeasrStart, Target
from flashflow.torctl.events import BwReport, CircEvent
from flashflow.torctl.reasons import Reason

START_DELAY_S: Final = 0.02
"""From the second call to the first cell: by then every worker has its Begin."""


class Phase(StrEnum):
    """Where a measurement is."""

    PROBING = "PROBING"
    BUILDING = "BUILDING"
    READY = "READY"
    ACTIVE = "ACTIVE"


DEADLINES_S: Final[Mapping[Phase, float]] = {
    Phase.PROBING: 4.0,
    Phase.BUILDING: 4.0,
    Phase.READY: 60.0,
    Phase.ACTIVE: 5.0,
}
"""Longest stay in a phase; in ACTIVE beyond warm-up and duration.

PROBING and BUILDING together stay below what the measurer (9 s) and the coordinator (10 s) wait for the circuits.
"""


class MeasrRun(Run):
    """One measurement; `workers_total` processes share its circuits."""

    def __init__(
        self,
        command: MeasrStart,
        *,
        run: int,
        conn: int,
        circ_ids: Sequence[int],
        bucket_cells: int,
        openings: Openings | None = None,
        new_circuit: Callable[[], int],
    ) -> None:
        """`openings` is for loop mode; `new_circuit` gives the id of one more circuit."""
        super().__init__(command, run=run, conn=conn)
        self._command = command
        self._bucket_cells = command.bucket_cells or bucket_cells
        self._phase = Phase.PROBING
        self._worker_of: dict[int, int] = {}
        self._sharing: set[int] = set()
        self._sums = SecondSums(())
        self._openings = openings
        self._new_circuit = new_circuit
        self._replacements = Replacements(len(circ_ids))
        self._waiting: list[int] = []
        self._reads = 2 if command.mode == "loop" else 1
        self.mode = command.mode
        self.fingerprint = command.fingerprint
        self.circuits = dict.fromkeys(circ_ids, False)

    def open(self, workers_total: int, now_s: float) -> list[Effect]:
        """Opens the first circuit; `workers_total` processes will share the circuits."""
        for index, circ_id in enumerate(self.circuits):
            self._worker_of[circ_id] = (self.run + index) % workers_total
        self._enter(Phase.PROBING, now_s)
        self._waiting = list(self.circuits)[:1]
        return self.wake(now_s)

    def wake(self, now_s: float) -> list[Effect]:
        """Opens those of the waiting circuits that may be opened now; ends all if a replacement is late."""
        if (reason := self._replacements.late(now_s)) is not None:
            return self.end(reason)
        count = len(self._waiting)
        if self._openings is not None and count:
            count = self._openings.take(count, now_s)
        circ_ids, self._waiting = self._waiting[:count], self._waiting[count:]
        self._set_wake()
        return self._open(circ_ids)

    def _set_wake(self) -> None:
        moments = [self._replacements.next_s()]
        if self._openings is not None and self._waiting:
            moments.append(self._openings.next_s())
        self.wake_s = min((moment for moment in moments if moment is not None), default=math.inf)

    def refusal(self) -> str | None:
        """Why the active phase cannot start now, or None."""
        return (
            None
            if self._phase is Phase.READY
            else f"measurement {self.meas_id} is {self._phase.value}, not READY"
        )

    def start(self, now_s: float) -> Sequence[Effect]:
        """The second call: every worker with a circuit begins at the same moment."""
        command, start_s = self._command, now_s + START_DELAY_S
        rate_bytes = command.rate_bytes and command.rate_bytes / self._reads
        self._enter(Phase.ACTIVE, now_s, command.warmup_s + command.dur_s)
        self._sharing = {self._worker_of[circ_id] for circ_id in self.circuits}
        self._sums = SecondSums(sorted(self._sharing))
        effects: list[Effect] = []
        for worker in sorted(self._sharing):
            begin = Begin(
                run=self.run,
                circ_ids=(mine := self._of_worker(worker, self.circuits)),
                start_mono_s=start_s,
                warmup_s=command.warmup_s,
                dur_s=command.dur_s,
                rate_bytes=rate_bytes and rate_bytes * len(mine) / len(self.circuits),
                circuit_cells=(command.limits or CEILING).circuit_cells,
            )
            effects.append(TellWorker(worker, begin))
        return effects

    def take(self, worker: int, message: FromWorker, now_s: float) -> Sequence[Effect]:
        """What a worker said. An unlisted pair is our own bug and raises KeyError."""
        return _TABLE[self._phase, type(message)](self, worker, message, now_s)

    def late(self) -> Sequence[Effect]:
        """The deadline has passed: circuits that still are not built have failed, or all is over."""
        if self._phase is not Phase.BUILDING:
            return self.end(Reason.TIMEOUT)
        if not self._enough():
            return self.end(Reason.TOO_FEW_CIRCUITS)
        unbuilt = [circ_id for circ_id, built in self.circuits.items() if not built]
        effects = self._give_up(unbuilt, Reason.TIMEOUT)
        self._enter(Phase.READY, self.deadline_s)
        return effects

    def _give_up(self, circ_ids: Iterable[int], reason: str) -> list[Effect]:
        """Circuits that are not built, and never will be."""
        self._waiting = []
        self._set_wake()
        return [effect for circ_id in circ_ids for effect in self.circuit_ended(circ_id, reason)]

    def _enter(self, phase: Phase, now_s: float, extra_s: float = 0) -> None:
        self._phase = phase
        self.deadline_s = now_s + extra_s + DEADLINES_S[phase]

    def _enough(self) -> bool:
        return 2 * sum(self.circuits.values()) >= self._command.n_circs

    def _open(self, circ_ids: Sequence[int]) -> list[Effect]:
        effects: list[Effect] = []
        for worker in sorted({self._worker_of[circ_id] for circ_id in circ_ids}):
            self.workers.add(worker)
            effects.append(TellWorker(worker, self._order(self._of_worker(worker, circ_ids))))
        return effects

    def _of_worker(self, worker: int, circ_ids: Iterable[int]) -> tuple[int, ...]:
        return tuple(circ_id for circ_id in circ_ids if self._worker_of[circ_id] == worker)

    def _order(self, circ_ids: tuple[int, ...]) -> OpenCircuits:
        command, target = self._command, self._command.target
        assert isinstance(target, Target)  # the core makes runs of commands with a target only
        return OpenCircuits(
            run=self.run,
            meas_id=self.meas_id,
            circ_ids=circ_ids,
            host=target.address.host,
            port=target.address.port,
            fingerprint=command.fingerprint,
            ed25519=target.ed25519.hex(),
            ntor=target.ntor.hex(),
            token=(command.token or b"").hex(),
            bucket_cells=self._bucket_cells,
            far_ends=tuple(str(far_end) for far_end in command.far_ends),
        )

    def _built(self, worker: int, message: CircuitBuilt, now_s: float) -> list[Effect]:
        if message.circ_id not in self.circuits:  # given up at a deadline just now
            return []
        self.circuits[message.circ_id] = True
        self._no_longer_waits(message.circ_id)
        self._replacements.built(message.circ_id)
        self._set_wake()
        effects: list[Effect] = [Announce(CircEvent(str(message.circ_id), "BUILT"))]
        if self._phase is Phase.PROBING:
            self._enter(Phase.BUILDING, now_s)
            self._waiting = list(self.circuits)[1:]
            effects += self.wake(now_s)
        return effects + self._settle(now_s)

    def _repeated(self, worker: int, message: CreateRepeated, now_s: float) -> list[Effect]:
        if self._openings is not None:
            self._openings.repeated(now_s)
            self._set_wake()
        return []

    def _circuit_ended(self, worker: int, message: CircuitEnded, now_s: float) -> list[Effect]:
        if message.circ_id not in self.circuits:
            return []
        self._no_longer_waits(message.circ_id)
        effects = self.circuit_ended(message.circ_id, message.reason)
        if self._phase is Phase.PROBING:
            return effects + self.end(message.reason)
        if self._openings is not None and self._phase is Phase.ACTIVE:
            return effects + self._replace(worker, message, now_s)
        if self._openings is not None and message.reason in REFUSALS:
            effects += self._give_up(self._waiting, message.reason)
        return effects + self._settle(now_s)

    def _no_longer_waits(self, circ_id: int) -> None:
        """A worker that speaks of a circuit has it, whether it was told to open it or not."""
        self._waiting = [waiting for waiting in self._waiting if waiting != circ_id]

    def _replace(self, worker: int, message: CircuitEnded, now_s: float) -> list[Effect]:
        """Opens another circuit, in the same worker, in place of one that was lost; or it is all over."""
        if not self._replacements.wanted(message.circ_id, message.reason):
            return [
                Log(f"measurement {self.meas_id}: circuit {message.circ_id} is not replaced"),
                *self.end(self._replacements.why(message.circ_id, message.reason)),
            ]
        circ_id = self._new_circuit()
        self._replacements.begin(circ_id, message.reason, now_s)
        self._worker_of[circ_id] = worker
        self.circuits[circ_id] = False
        self._waiting.append(circ_id)
        return [Announce(CircEvent(str(circ_id), "LAUNCHED")), *self.wake(now_s)]

    def _settle(self, now_s: float) -> list[Effect]:
        """Once no circuit is under way: go on, or give up."""
        if not all(self.circuits.values()):
            return []
        if not self._enough():
            return self.end(Reason.RELAY_CLOSED if self._phase is Phase.ACTIVE else Reason.TOO_FEW_CIRCUITS)
        if self._phase is Phase.BUILDING:
            self._enter(Phase.READY, now_s)
        return []

    def _second(self, worker: int, message: SecondCounted, now_s: float) -> list[Effect]:
        report = SecondReport(message.second, message.sent_bytes, message.recv_bytes)
        return [
            Announce(
                BwReport(
                    self.meas_id,
                    total.second,
                    total.sent_bytes * self._reads,
                    total.recv_bytes * self._reads,
                )
            )
            for total in self._sums.add(worker, report)
        ]

    def _share_ended(self, worker: int, message: ShareEnded, now_s: float) -> list[Effect]:
        if message.reason is not None:
            return self.end(message.reason)
        self._sharing.discard(worker)
        return [] if self._sharing else self.end(None)


_TABLE: Final[Mapping[tuple[Phase, type[Any]], Callable[[MeasrRun, int, Any, float], list[Effect]]]] = {
    (Phase.PROBING, CircuitBuilt): MeasrRun._built,
    (Phase.PROBING, CircuitEnded): MeasrRun._circuit_ended,
    (Phase.PROBING, CreateRepeated): MeasrRun._repeated,
    (Phase.PROBING, ShareEnded): MeasrRun._share_ended,
    (Phase.BUILDING, CircuitBuilt): MeasrRun._built,
    (Phase.BUILDING, CircuitEnded): MeasrRun._circuit_ended,
    (Phase.BUILDING, CreateRepeated): MeasrRun._repeated,
    (Phase.BUILDING, ShareEnded): MeasrRun._share_ended,
    (Phase.READY, CircuitBuilt): MeasrRun._built,
    (Phase.READY, CircuitEnded): MeasrRun._circuit_ended,
    (Phase.READY, CreateRepeated): MeasrRun._repeated,
    (Phase.READY, ShareEnded): MeasrRun._share_ended,
    (Phase.ACTIVE, CircuitBuilt): MeasrRun._built,
    (Phase.ACTIVE, CircuitEnded): MeasrRun._circuit_ended,
    (Phase.ACTIVE, CreateRepeated): MeasrRun._repeated,
    (Phase.ACTIVE, SecondCounted): MeasrRun._second,
    (Phase.ACTIVE, ShareEnded): MeasrRun._share_ended,
}
"""What a worker may say in a phase, and what follows. A relay may cheat, and so end a share, from its circuit on."""
