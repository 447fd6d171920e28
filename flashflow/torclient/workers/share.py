"""One worker's share of a measurement: circuits, window, pace, seconds."""

import math
import ssl
from collections.abc import Callable
from functools import partial

from flashflow.model.circuits import CircuitPlan
from flashflow.model.errors import NetworkError, PeerError
from flashflow.orlink.cells import Command
from flashflow.orlink.meas import MeasJoin
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
from flashflow.torclient.core.pacing import TICK_S, Pacer, SendWindow
from flashflow.torclient.core.sampling import EchoError, TruncatedError
from flashflow.torclient.core.seconds import SecondCutter
from flashflow.torclient.workers.circuit import ClosedCircuitError, EchoCircuit
from flashflow.torclient.workers.link import Link, LostLinkError, RelayTarget
from flashflow.torctl.commands import FarEnd, parse_far_end
from flashflow.torctl.reasons import Reason

Say = Callable[[FromWorker], None]
"""Sends a message to the control process."""
CHUNK = 127
"""A circuit with less room than this waits, unless its window is small: half-empty TLS records cost CPU."""
LONG_PATH_PARTS = 8
"""A circuit waits for room for half its window, on a long path for an eighth: what is not outstanding is missed there."""
BATCH_CELLS = 512
"""Most cells sent on a circuit at once."""
LAST_LOOK_S = 0.002
"""So long before a second ends what came in it is counted, however long the pauses are."""
LAST_SECOND_S = 1.0
"""A relay that closes within the last second is normal."""


class Traffic:
    """What exists from Begin to the end."""

    def __init__(self, begin: Begin, round_trip_s: float) -> None:
        self.begin = begin
        self.window = SendWindow(
            rate_bytes=begin.rate_bytes, round_trip_s=round_trip_s, circuit_cells=begin.circuit_cells
        )
        self.pacer = Pacer(begin.rate_bytes, begin.start_mono_s)
        self.cutter = SecondCutter(begin.start_mono_s + begin.warmup_s, begin.dur_s)
        self.plan = CircuitPlan(1, 0)
        self.in_use: list[int] = []
        """Circuits over which the window is spread until the next tick."""
        self.tick_at_s = begin.start_mono_s
        rate_cells = 1e9 if begin.rate_bytes is None else begin.rate_bytes / 514
        self.least_cells = int(min(64, max(1, rate_cells * 0.01)))
        """Fewer cells than this are not worth a TLS record while RATE is what limits."""


class Share:
    """This process' part of one measurement. Once `over`, the loop forgets it."""

    def __init__(self, order: OpenCircuits, context: ssl.SSLContext, scratch: memoryview, say: Say) -> None:
        self.run = order.run
        self.over = False
        self._scratch = scratch
        self._say = say
        self._context = context
        self._far_ends = tuple(parse_far_end(text) for text in order.far_ends)
        self._join = None if self._far_ends else MeasJoin(order.meas_id, bytes.fromhex(order.token))
        self._bucket_cells = order.bucket_cells
        self._opening: dict[int, Link] = {}
        self._circuits: dict[int, EchoCircuit] = {}
        self._gone_sent = 0
        self._gone_recv = 0
        self._traffic: Traffic | None = None

    def open(self, order: OpenCircuits) -> list[tuple[int, Link]]:
        """Begins to connect; gives the new links with their circuits' ids."""
        target = RelayTarget(
            order.host,
            order.port,
            bytes.fromhex(order.fingerprint),
            bytes.fromhex(order.ed25519),
            bytes.fromhex(order.ntor),
        )
        opened: list[tuple[int, Link]] = []
        for circ_id in order.circ_ids:
            try:
                repeats = partial(self._say, CreateRepeated(self.run, circ_id))
                link = Link(target, self._context, self._scratch, self._far_end(circ_id), repeats)
            except LostLinkError as exc:
                self._say(CircuitEnded(self.run, circ_id, exc.code, exc.reason))
                continue
            self._opening[circ_id] = link
            opened.append((circ_id, link))
        return opened

    def begin(self, begin: Begin) -> None:
        """Traffic starts at `begin.start_mono_s`."""
        for circ_id in [circ_id for circ_id in self._opening if circ_id not in begin.circ_ids]:
            self._opening.pop(circ_id).close()
        for circ_id in [circ_id for circ_id in self._circuits if circ_id not in begin.circ_ids]:
            self._circuits.pop(circ_id).link.close()
        shortest = min((circuit.round_trip_s for circuit in self._circuits.values()), default=TICK_S)
        self._traffic = Traffic(begin, shortest)

    def ready(self, circ_id: int, now_s: float) -> None:
        """The socket of a circuit is ready."""
        circuit = self._circuits.get(circ_id)
        try:
            if circuit is not None:
                if self._cut(now_s):
                    circuit.receive(self._scratch, self._until_s())
            elif circ_id in self._opening:
                self._advance(circ_id)
        except EchoError as exc:
            self._fail(exc.code, exc.reason)
        except TruncatedError as exc:
            self._lost(circ_id, LostLinkError(exc.code, exc.reason), now_s)
        except LostLinkError as exc:
            self._lost(circ_id, exc, now_s)
        except PeerError as exc:
            self._lost(circ_id, LostLinkError(Reason.RELAY_PROTOCOL, exc.reason), now_s)
        except NetworkError as exc:  # it broke as the first cell was sent on a circuit just built
            self._lost(circ_id, LostLinkError(Reason.RELAY_CLOSED, exc.reason), now_s)

    def pump(self, now_s: float) -> float | None:
        """Sends what window and pace allow; gives the seconds after which it wants to be called again."""
        traffic = self._traffic
        if traffic is None or self.over:
            return None
        if now_s < traffic.begin.start_mono_s:
            return traffic.begin.start_mono_s - now_s
        if not self._cut(now_s):
            return None
        if now_s >= traffic.tick_at_s and not self._tick(traffic, now_s):
            return None
        paced = self._send(traffic, now_s)
        wake_s = min(traffic.tick_at_s - now_s, _until_last_look_s(traffic.cutter.next_s - now_s))
        return max(0.0, min(wake_s, 0.005) if paced else wake_s)

    def nap_s(self) -> float:
        """How long nothing needs to be looked at, whatever arrives."""
        return self._traffic.window.nap_s() if self._traffic is not None and not self.over else 0.0

    def close(self) -> None:
        """Closes all connections at once."""
        self.over = True
        for link in self._opening.values():
            link.close()
        for circuit in self._circuits.values():
            circuit.link.close()
        self._opening.clear()
        self._circuits.clear()

    def _far_end(self, circ_id: int) -> FarEnd | None:
        return self._far_ends[circ_id % len(self._far_ends)] if self._far_ends else None

    def _advance(self, circ_id: int) -> None:
        link = self._opening[circ_id]
        circuit = link.advance()
        if circuit is not None:
            command = Command.RELAY
            if self._join is not None:
                command = Command.MEAS_ECHO
                link.send_cell(Command.MEASUREMENT, self._join.encode())
            echo = EchoCircuit(link, circuit, command=command, bucket_cells=self._bucket_cells)
            del self._opening[circ_id]
            self._circuits[circ_id] = echo
            self._say(CircuitBuilt(self.run, circ_id))

    def _until_s(self) -> float:
        """When the second that runs ends."""
        return math.inf if self._traffic is None else self._traffic.cutter.next_s

    def _tick(self, traffic: Traffic, now_s: float) -> bool:
        """Decides the window anew; whether it goes on."""
        traffic.tick_at_s = now_s + TICK_S
        if not self._passes(lambda circuit: circuit.look_if_quiet(now_s), now_s):
            return False
        for circuit in self._circuits.values():
            traffic.window.note_round_trips(*circuit.take_round_trips(now_s))
        received = self._gone_recv + sum(circuit.received_cells for circuit in self._circuits.values())
        traffic.plan = traffic.window.plan(now_s, received, len(self._circuits))
        # Stock tor may forget to say that a circuit is over: one that is silent must not keep the others from their work.
        by_silence = sorted(self._circuits, key=lambda circ_id: self._circuits[circ_id].is_quiet)
        traffic.in_use = by_silence[: traffic.plan.n_circs]
        return True

    def _send(self, traffic: Traffic, now_s: float) -> bool:
        """Fills the windows of the circuits in use; whether RATE was what ended it."""
        plan = traffic.plan
        allowance = traffic.pacer.allowance(now_s)
        each = plan.window_cells // plan.n_circs
        parts = LONG_PATH_PARTS if traffic.window.is_long else 2
        for circ_id in traffic.in_use:
            circuit = self._circuits.get(circ_id)
            if circuit is None:  # lost since
                continue
            room = min(each - circuit.outstanding_cells, BATCH_CELLS)
            if room < min(each // parts, CHUNK) or room <= 0 or circuit.link.stream.blocked:
                continue
            if allowance is not None:
                if allowance < min(traffic.least_cells, room):
                    return True
                room = min(room, allowance)
                allowance -= room
            traffic.pacer.spend(room)
            try:
                circuit.send(room, now_s)
            except ClosedCircuitError as exc:
                self._lost(circ_id, exc, now_s)
        return False

    def _cut(self, now_s: float) -> bool:
        """Reports the seconds that are over, once what came is verified; whether it goes on."""
        traffic = self._traffic
        if traffic is None or now_s < traffic.cutter.next_s:
            return True
        sent = self._gone_sent + sum(circuit.sent_cells for circuit in self._circuits.values())
        recv = self._gone_recv + sum(circuit.received_cells for circuit in self._circuits.values())
        reports = traffic.cutter.cut(now_s, sent, recv)
        final = now_s >= traffic.cutter.end_s  # then the last cell of each circuit is checked too
        if not self._passes(
            lambda circuit: circuit.check.finish() if final else circuit.check.verify(), now_s
        ):
            return False
        for report in reports:
            self._say(SecondCounted(self.run, report.second, report.sent_bytes, report.recv_bytes))
        if now_s < traffic.cutter.end_s:
            return True
        self._say(ShareEnded(self.run, None, ""))
        self.close()
        return False

    def _passes(self, check: Callable[[EchoCircuit], None], now_s: float) -> bool:
        """Checks all circuits: those that show their end are lost, a cheat ends all. Whether it goes on."""
        for circ_id, circuit in list(self._circuits.items()):
            try:
                check(circuit)
            except TruncatedError as exc:
                self._lost(circ_id, LostLinkError(exc.code, exc.reason), now_s)
            except EchoError as exc:
                self._fail(exc.code, exc.reason)
            if self.over:
                return False
        return True

    def _lost(self, circ_id: int, why: LostLinkError, now_s: float) -> None:
        """A circuit is over: what came on it still has to pass the final check."""
        link = self._opening.pop(circ_id, None)
        circuit = self._circuits.pop(circ_id, None)
        if link is not None:
            link.close()
        if circuit is not None:
            circuit.link.close()
            try:
                circuit.check.finish()
            except TruncatedError as exc:  # the relay said why before it closed
                why = LostLinkError(exc.code, exc.reason)
            except EchoError as exc:
                self._fail(exc.code, exc.reason)
                return
            self._gone_sent += circuit.sent_cells
            self._gone_recv += circuit.received_cells
        traffic = self._traffic
        if traffic is None or now_s < traffic.cutter.end_s - LAST_SECOND_S:
            self._say(CircuitEnded(self.run, circ_id, why.code, why.reason))

    def _fail(self, code: Reason, detail: str) -> None:
        self._say(ShareEnded(self.run, code, detail))
        self.close()


def _until_last_look_s(second_s: float) -> float:
    """How long to wait while a second lasts `second_s` more: the sockets are emptied just before it ends."""
    return second_s - LAST_LOOK_S if second_s > LAST_LOOK_S else second_s
