"""torclient's core on a hand-driven clock."""

from flashflow.model.clock import Now, TimerFired
from flashflow.model.ids import Address, Fingerprint, MeasId
from flashflow.torclient.core.effects import Announce, Answer, Log, TellWorker
from flashflow.torclient.core.events import CommandReceived, WorkerSpoke
from flashflow.torclient.core.state import TorClientCore
from flashflow.torctl.commands import CoordStart, FarEnd, MeasrStart, MeasurerToken, Target

FP = Fingerprint("AB" * 20)
TARGET = Target(Address("127.0.0.1", 9001), bytes(32), bytes(range(32)))
TOKEN = bytes(range(16))
FAR_END = FarEnd(Address("127.0.0.1", 9100), Fingerprint("CD" * 20), bytes(32), bytes(32))
CONN = 1


def measr(meas_id=7, n_circs=4, dur_s=3, **extras):
    """A first MEASR_START_MEAS."""
    extras = {"rate_bytes": 1_000_000, "warmup_s": 2, "token": TOKEN, "target": TARGET, **extras}
    return MeasrStart(MeasId(meas_id), FP, n_circs, dur_s, **extras)


def loop(meas_id=7, n_circs=4, **extras):
    """A first MEASR_START_MEAS in loop mode."""
    return measr(meas_id, n_circs, **{"token": None, "mode": "loop", "far_ends": (FAR_END,), **extras})


def coord(meas_id=7, dur_s=5):
    """A first COORD_START_MEAS."""
    return CoordStart(MeasId(meas_id), FP, dur_s, TARGET, (MeasurerToken(TOKEN, "::1", 4),))


class CoreWorld:
    """A core, its clock, and everything it did."""

    def __init__(self, workers=2):
        self.core = TorClientCore(workers=workers)
        self.now_s = 1000.0
        self.effects = []

    def do(self, event):
        """Hands an event over; gives its effects."""
        effects = list(self.core.handle(event, Now(self.now_s, 0.0)))
        self.effects += effects
        return effects

    def command(self, command, conn=CONN):
        """Gives a command; the answer as (code, text), and the other effects."""
        answer, *rest = self.do(CommandReceived(conn, command))
        assert isinstance(answer, Answer)
        assert answer.conn == conn
        return (answer.code, answer.text), rest

    def says(self, message, worker=0):
        """A worker sends a message."""
        return self.do(WorkerSpoke(worker, message))

    def pass_time(self):
        """Lets the time pass that the core waits for, and fires the timer."""
        self.now_s = self.core.next_timer()
        return self.do(TimerFired())


def announced(effects):
    """The lines of the events."""
    return [effect.event.line() for effect in effects if isinstance(effect, Announce)]


def told(effects):
    """(worker, message) pairs."""
    return [(effect.worker, effect.message) for effect in effects if isinstance(effect, TellWorker)]


def logged(effects):
    """The log's lines."""
    return [effect.text for effect in effects if isinstance(effect, Log)]
