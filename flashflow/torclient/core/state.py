"""torclient's State: measurements by id. `handle(event, now)` is the sole mutator."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from flashflow.model.clock import Now, TimerFired
from flashflow.model.ids import Fingerprint
from flashflow.model.network import CEILING
from flashflow.torclient.core.coord import CoordRun
from flashflow.torclient.core.effects import Announce, Answer, Effect, Log
from flashflow.torclient.core.events import CommandReceived, ControlClosed, WorkerDied, WorkerSpoke
from flashflow.torclient.core.limits import Openings
from flashflow.torclient.core.measr import MeasrRun
from flashflow.torclient.core.messages import CircuitEnded, ShareEnded
from flashflow.torclient.core.run import Run, difference
from flashflow.torclient.core.sampling import DEFAULT_BUCKET_CELLS
from flashflow.torctl.commands import CoordStart, MeasrStart, Stop
from flashflow.torctl.events import CircEvent
from flashflow.torctl.reasons import Reason


class TorClientCore:
    """The state machine of the control process; `workers` processes do the traffic."""

    def __init__(self, *, workers: int, bucket_cells: int = DEFAULT_BUCKET_CELLS) -> None:
        self._workers = workers
        self._bucket_cells = bucket_cells
        self._runs: dict[int, Run] = {}
        self._by_meas_id: dict[tuple[type[Run], int], int] = {}
        self._openings: dict[Fingerprint, Openings] = {}
        self._last_run = 0
        self._last_circ_id = 0

    def handle(self, event: object, now: Now) -> Sequence[Effect]:
        """Takes one event in; gives the effects in order."""
        effects = _HANDLERS[type(event)](self, event, now.mono_s)
        for run in [run for run in self._runs.values() if run.ended]:
            del self._runs[run.run], self._by_meas_id[type(run), run.meas_id]
        return effects

    def next_timer(self) -> float | None:
        """The nearest deadline, or other moment of a run."""
        return min((min(run.deadline_s, run.wake_s) for run in self._runs.values()), default=None)

    def _on_command(self, event: CommandReceived, now_s: float) -> list[Effect]:
        command = event.command
        if isinstance(command, Stop):
            return self._stop(event.conn, command)
        kind = CoordRun if isinstance(command, CoordStart) else MeasrRun
        known = self._by_meas_id.get((kind, command.meas_id))
        if command.target is None:
            return self._start(event.conn, command, None if known is None else self._runs[known], now_s)
        if known is not None:
            return [Answer(event.conn, 550, f"measurement {command.meas_id} is under way already")]
        if isinstance(command, MeasrStart) and (refusal := self._too_many_loops(command)) is not None:
            return [Answer(event.conn, 550, refusal)]
        return self._begin(event.conn, command, now_s)

    def _begin(self, conn: int, command: CoordStart | MeasrStart, now_s: float) -> list[Effect]:
        self._last_run += 1
        if isinstance(command, CoordStart):
            return self._begin_coord(conn, command, now_s)
        openings = self._openings_to(command, now_s) if command.mode == "loop" else None
        circ_ids = self._new_circuits(command.n_circs)
        run = MeasrRun(
            command,
            run=self._last_run,
            conn=conn,
            circ_ids=circ_ids,
            bucket_cells=self._bucket_cells,
            openings=openings,
            new_circuit=lambda: self._new_circuits(1)[0],
        )
        self._add(run)
        named = ",".join(str(circ_id) for circ_id in circ_ids)
        answer = Answer(conn, 250, f"FF_MEAS {command.meas_id} LAUNCHED CIRCS={named}")
        return [answer, *_launched(circ_ids), *run.open(self._workers, now_s)]

    def _begin_coord(self, conn: int, command: CoordStart, now_s: float) -> list[Effect]:
        circ_ids = self._new_circuits(1)
        run = CoordRun(command, run=self._last_run, conn=conn, circ_id=circ_ids[0])
        self._add(run)
        answer = Answer(conn, 250, f"LAUNCHED {circ_ids[0]}")
        return [answer, *_launched(circ_ids), *run.open(self._last_run % self._workers, now_s)]

    def _start(
        self, conn: int, command: CoordStart | MeasrStart, run: Run | None, now_s: float
    ) -> list[Effect]:
        if run is None:
            return [
                Answer(
                    conn, 552, f"Unrecognized measurement {command.meas_id}: ADDR= is missing to begin one"
                )
            ]
        if (other := difference(run.command, command)) is not None:
            return [Answer(conn, 513, other)]
        if (refusal := run.refusal()) is not None:
            return [Answer(conn, 550, refusal)]
        return [Answer(conn, 250, "OK"), *run.start(now_s)]

    def _stop(self, conn: int, command: Stop) -> list[Effect]:
        runs = [run for run in self._runs.values() if run.meas_id == command.meas_id]
        if not runs:
            return [Answer(conn, 552, f"Unrecognized measurement {command.meas_id}")]
        return [Answer(conn, 250, "OK"), *(effect for run in runs for effect in run.end(Reason.STOPPED))]

    def _on_control_closed(self, event: ControlClosed, now_s: float) -> list[Effect]:
        owned = [run for run in self._runs.values() if run.conn == event.conn]
        return [effect for run in owned for effect in run.end(Reason.STOPPED)]

    def _on_worker(self, event: WorkerSpoke, now_s: float) -> list[Effect]:
        message = event.message
        run = self._runs.get(message.run)
        if run is None:  # it crossed our Halt
            return []
        effects: list[Effect] = []
        if isinstance(message, CircuitEnded | ShareEnded) and message.reason is not None:
            effects.append(Log(f"measurement {run.meas_id}: {message.reason}: {message.detail}"))
        return [*effects, *run.take(event.worker, message, now_s)]

    def _on_worker_died(self, event: WorkerDied, now_s: float) -> list[Effect]:
        effects: list[Effect] = [Log(f"worker {event.worker} died")]
        for run in [run for run in self._runs.values() if event.worker in run.workers]:
            run.workers.discard(event.worker)
            effects += run.end(Reason.WORKER_LOST)
        return effects

    def _on_timer(self, event: TimerFired, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for run in self._runs.values():
            if run.deadline_s <= now_s:
                effects += run.late()
            elif run.wake_s <= now_s:
                effects += run.wake(now_s)
        return effects

    def _too_many_loops(self, command: MeasrStart) -> str | None:
        """Why a loop measurement would open more connections to its relay than it may, or None."""
        if command.mode != "loop":
            return None
        loops = [run for run in self._runs.values() if isinstance(run, MeasrRun) and run.mode == "loop"]
        live = sum(len(run.circuits) for run in loops if run.fingerprint == command.fingerprint)
        most = (command.limits or CEILING).connections
        if live + command.n_circs <= most:
            return None
        return f"{live} circuits lead to this relay already, {most} in all may"

    def _openings_to(self, command: MeasrStart, now_s: float) -> Openings:
        self._openings = {
            fingerprint: openings
            for fingerprint, openings in self._openings.items()
            if not openings.forgettable(now_s)
        }
        limits = command.limits or CEILING
        openings = self._openings.setdefault(command.fingerprint, Openings(limits, now_s))
        openings.resize(limits, now_s)
        return openings

    def _add(self, run: Run) -> None:
        self._runs[run.run] = run
        self._by_meas_id[type(run), run.meas_id] = run.run

    def _new_circuits(self, count: int) -> list[int]:
        first = self._last_circ_id + 1
        self._last_circ_id += count
        return list(range(first, first + count))


def _launched(circ_ids: Sequence[int]) -> list[Effect]:
    return [Announce(CircEvent(str(circ_id), "LAUNCHED")) for circ_id in circ_ids]


_HANDLERS: Final[Mapping[type[Any], Callable[[TorClientCore, Any, float], list[Effect]]]] = {
    CommandReceived: TorClientCore._on_command,
    ControlClosed: TorClientCore._on_control_closed,
    WorkerSpoke: TorClientCore._on_worker,
    WorkerDied: TorClientCore._on_worker_died,
    TimerFired: TorClientCore._on_timer,
}
"""Event -> handler."""
