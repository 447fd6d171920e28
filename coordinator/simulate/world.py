"""The core's surroundings on a virtual clock: what the real ones would answer, as early as they could, without faults.

Relays are measured in loop mode, whose measurements need no Tor client and no reports of the relay's own: fewest
events, the same schedule. A relay carries its true capacity, or what it is loaded with where that is less.
"""

import heapq
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.handle import Coordinator
from coordinator.core.params import Params
from flashflow.directory.filter import EVERYONE, RelayFilter, Rule
from flashflow.model.clock import Now, TimerFired
from flashflow.model.ids import Fingerprint, MeasId
from flashflow.model.network import Consensus
from flashflow.model.results import MeasurementRecord
from flashflow.wire import messages as wire

# Times are sums of powers of two, so that the virtual clocks keep exact step.
CONNECT_S = 1.0
"""From ConnectToRelay to ConnectedToRelay."""
REPORT_S = 0.125
"""From the end of a second to its report."""
STORE_S = 0.0625
"""From SaveMeasurement to MeasurementStored."""
EARLIER_S = 0.5
"""The coordinator starts so long before the period."""
_ALL_IN_LOOP_MODE = RelayFilter((Rule(allow=True, who=EVERYONE, mode="loop", rate_limit_bytes=None, line=1),))


@dataclass(frozen=True, slots=True)
class Outcome:
    """One measurement that was stored."""

    fingerprint: Fingerprint
    """The relay."""
    slot: int
    """The slot in which it began, 0 for the period's first."""
    allocated_bytes: int
    """Sum over the measurers, cell bytes/s."""
    result_bytes: int | None
    """The result, cell bytes/s; None if it failed."""
    accepted: bool
    """It is the relay's capacity, not a lower bound."""
    team_limited: bool
    """A lower bound because the team has no more for one relay."""


class World:
    """One coordinator through one period."""

    def __init__(
        self,
        params: Params,
        network: Consensus,
        true_bytes: Mapping[Fingerprint, int],
        team: Mapping[str, int],
        seed: bytes,
    ) -> None:
        self.core = Coordinator(params)
        self.outcomes: list[Outcome] = []
        """What was stored, in order."""
        self.slowest_start_s = 0.0
        """Longest that one event took the core before the first measurement began: the schedule's building."""
        self._params = params
        self._loaded = ev.RelaysLoaded(network.relays, _ALL_IN_LOOP_MODE, network.header)
        self._true_bytes = true_bytes
        self._team = team
        self._seed = seed
        self._period_utc_s = _next_period_s(network, params.period_s)
        self._mono_s = 0.0
        self._due: list[tuple[float, int, object]] = []
        self._posted = 0
        self._rates: dict[int, tuple[Fingerprint, dict[str, int]]] = {}

    def run(self, on_slot: Callable[[int], None] = lambda slot: None) -> None:
        """The whole period; `on_slot` hears of each slot that begins."""
        self._say(ev.Started(self._seed, (), (), None, secret=self._seed))
        for number, (name, capacity_bytes) in enumerate(self._team.items(), start=1):
            self._say(ev.MeasurerJoined(name, capacity_bytes, f"192.0.2.{number}"))
        shown = -1
        while self._step():
            slot = self._slot(self._now.utc_s)
            if slot > shown:
                shown = slot
                on_slot(slot)

    def _step(self) -> bool:
        """Let the next thing happen; False if that would be after the period."""
        timer_s = self.core.next_timer()
        assert timer_s is not None  # the next slot at least
        due_s = self._due[0][0] if self._due else timer_s
        if min(due_s, timer_s) >= EARLIER_S + self._params.period_s:
            return False
        if self._due and due_s <= timer_s:
            self._mono_s, _, event = heapq.heappop(self._due)
        else:
            self._mono_s, event = max(self._mono_s, timer_s), TimerFired()
        self._say(event)
        return True

    @property
    def _now(self) -> Now:
        return Now(self._mono_s, self._period_utc_s - EARLIER_S + self._mono_s)

    def _slot(self, utc_s: float) -> int:
        return int((utc_s - self._period_utc_s) // self._params.slot_s)

    def _say(self, event: object) -> None:
        starting = not self._rates
        begun_s = time.perf_counter() if starting else 0.0
        effects = self.core.handle(event, self._now)
        if starting:
            self.slowest_start_s = max(self.slowest_start_s, time.perf_counter() - begun_s)
        for effect in effects:
            _OUTPUTS[type(effect)](self, effect)
        if isinstance(event, ev.MeasurerSaid) and isinstance(event.message, wire.BwReport):
            self._report(event.name, event.message.meas_id, event.message.second + 1)

    def _post(self, delay_s: float, event: object) -> None:
        self._posted += 1
        heapq.heappush(self._due, (self._mono_s + delay_s, self._posted, event))

    def _load_relays(self, effect: do.LoadRelays) -> None:
        self._post(0.0, self._loaded)

    def _write_v3bw(self, effect: do.WriteV3bw) -> None:
        self._post(0.0, ev.V3bwWritten(effect.query_id, None, 0, None))

    def _to_measurer(self, effect: do.SendToMeasurer) -> None:
        message = effect.message
        if isinstance(message, wire.ConnectToRelay):
            _, rates = self._rates.setdefault(message.meas_id, (Fingerprint(message.fp), {}))
            rates[effect.name] = message.rate_bytes
            connected = wire.ConnectedToRelay(meas_id=message.meas_id, n_circs=message.n_circs)
            self._post(CONNECT_S, ev.MeasurerSaid(effect.name, connected))
        elif isinstance(message, wire.Go):
            self._report(effect.name, message.meas_id, 1)
        else:  # a denial, or a Stop though everybody does what is expected
            raise AssertionError(f"{effect.name} was sent {message!r}")

    def _report(self, name: str, meas_id: int, second: int) -> None:
        """The measurer's report of `second` comes when that is over."""
        if second > self._params.duration_s:
            return
        fingerprint, rates = self._rates[meas_id]
        total = sum(rates.values())
        carried = rates[name] * min(total, self._true_bytes[fingerprint]) // total
        report = wire.BwReport(meas_id=meas_id, second=second, sent_bytes=carried, recv_bytes=carried)
        after_s = 1.0 if second > 1 else self._params.warmup_s + 1.0 + REPORT_S
        self._post(after_s, ev.MeasurerSaid(name, report))

    def _save(self, effect: do.SaveMeasurement) -> None:
        record = effect.record
        self.outcomes.append(self._outcome(record))
        self._post(STORE_S, ev.MeasurementStored(MeasId(record.meas_id)))

    def _save_progress(self, effect: do.SaveProgress) -> None:
        self._post(0.0, ev.ProgressStored(tuple(left.meas_id for left in effect.progress.in_work)))

    def _outcome(self, record: MeasurementRecord) -> Outcome:
        return Outcome(
            record.fingerprint,
            self._slot(record.started_utc_s),
            record.allocated_bytes,
            record.result_bytes,
            record.accepted,
            record.team_limited,
        )


def _next_period_s(network: Consensus, period_s: int) -> float:
    """The begin of the first period that is wholly after the consensus, Unix time."""
    return (network.header.valid_after_utc_s // period_s + 1) * period_s


def _nothing(world: World, effect: object) -> None:
    """Of no consequence for the schedule."""


_OUTPUTS: dict[type, Callable[[World, Any], None]] = {
    do.LoadRelays: World._load_relays,
    do.WriteV3bw: World._write_v3bw,
    do.SendToMeasurer: World._to_measurer,
    do.SaveMeasurement: World._save,
    do.SaveProgress: World._save_progress,
    do.Log: _nothing,
    do.LogRefusal: _nothing,
}
"""Effect -> what becomes of it; any other is a mistake here and raises KeyError."""
