"""What both kinds of measurement share: who owns it, its phase, its deadline, its end."""

import math
from collections.abc import Iterable, Sequence

from flashflow.torclient.core.effects import Announce, Effect, TellWorker
from flashflow.torclient.core.messages import FromWorker, Halt
from flashflow.torctl.commands import CoordStart, MeasrStart
from flashflow.torctl.events import CircEvent, MeasEnd
from flashflow.torctl.reasons import Reason


class Run:
    """One measurement on this side; `ended` once nothing more will come of it."""

    def __init__(self, command: CoordStart | MeasrStart, *, run: int, conn: int) -> None:
        self.run = run
        self.command = command
        """The controller's first call."""
        self.meas_id = command.meas_id
        self.conn = conn
        self.ended = False
        self.deadline_s = 0.0
        self.wake_s = math.inf
        """When it has something to do, whatever comes."""
        self.workers: set[int] = set()
        """Workers that have a part in it."""
        self.circuits: dict[int, bool] = {}
        """Circuits that live, by ascending id: whether they are built."""

    def start(self, now_s: float) -> Sequence[Effect]:
        """The controller's second call: the active phase."""
        raise NotImplementedError

    def refusal(self) -> str | None:
        """Why the active phase cannot start now, or None."""
        raise NotImplementedError

    def take(self, worker: int, message: FromWorker, now_s: float) -> Sequence[Effect]:
        """A worker said something about this run."""
        raise NotImplementedError

    def wake(self, now_s: float) -> Sequence[Effect]:
        """`wake_s` has come."""
        raise NotImplementedError

    def late(self) -> Sequence[Effect]:
        """The deadline has passed."""
        raise NotImplementedError

    def end(self, reason: Reason | str | None) -> list[Effect]:
        """Ends it: workers stop at once, the controller is told."""
        self.ended = True
        effects: list[Effect] = [TellWorker(worker, Halt(self.run)) for worker in sorted(self.workers)]
        effects += _closed(self.circuits, reason)
        self.circuits = {}
        effects.append(Announce(MeasEnd(self.meas_id, reason is None, reason)))
        return effects

    def circuit_ended(self, circ_id: int, reason: str) -> list[Effect]:
        """Takes a circuit away: FAILED if it was never built, else CLOSED."""
        built = self.circuits.pop(circ_id)
        return [Announce(CircEvent(str(circ_id), "CLOSED" if built else "FAILED", reason))]


def difference(first: CoordStart | MeasrStart, second: CoordStart | MeasrStart) -> str | None:
    """What of a second call does not go with the first, or None. Its circuits are those that were built."""
    told: list[tuple[str, object, object]] = [
        ("fingerprint", second.fingerprint, first.fingerprint),
        ("dur", second.dur_s, first.dur_s),
    ]
    if isinstance(first, MeasrStart) and isinstance(second, MeasrStart) and second.n_circs > first.n_circs:
        told.append(("n_circs", second.n_circs, first.n_circs))
    wrong = next((one for one in told if one[1] != one[2]), None)
    return wrong and f"{wrong[0]}: {wrong[1]}, but measurement {first.meas_id} began with {wrong[2]}"


def _closed(circ_ids: Iterable[int], reason: str | None) -> list[Effect]:
    return [Announce(CircEvent(str(circ_id), "CLOSED", reason or "FINISHED")) for circ_id in circ_ids]
