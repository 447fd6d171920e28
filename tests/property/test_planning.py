"""Whatever happens to relays, team, store, clock and service: each relay has one place in the plan, and is measured."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.measurement import RUNNING
from coordinator.core.params import Params
from coordinator.core.planning import is_eligible, slot_of
from coordinator.core.state import refusal
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint
from flashflow.model.plan import PlanRow
from flashflow.wire import messages as wire
from support.coordinator_world import World, relay

NUMBERS = range(1, 7)
SLOT_S, N_SLOTS = 30, 6
LARGE_BYTES = 1_250_000_000
CONTROLLER = 7

numbers = st.sampled_from(NUMBERS)
STEPS = st.one_of(
    st.tuples(st.just("sleep"), st.sampled_from([0.5, 3.0, 8.0, 29.0, 31.0, 31.0, 65.0, 181.0, 400.0])),
    st.tuples(st.just("join"), st.sampled_from(["m1", "m2", "m3"]), st.sampled_from([10**6, 10**7, 10**8])),
    st.tuples(st.just("part"), st.sampled_from(["m1", "m2", "m3"])),
    st.tuples(st.just("relay"), numbers, st.sampled_from(["running", "offline", "left", "denied"])),
    st.tuples(st.just("limit"), numbers, st.sampled_from([1, 3, 100])),
    st.tuples(st.just("offered"), numbers),
    st.tuples(st.just("taken back"), numbers),
    st.tuples(st.just("results"), st.sampled_from([0.1, 0.9, 5.0])),
    st.tuples(st.just("fail"), st.sampled_from(list(ErrorKind))),
    st.tuples(st.just("stored"), st.booleans()),
    st.tuples(st.just("measure"), numbers),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("clock"), st.sampled_from([-3600.0, 3600.0, -20.0, 100.0])),
    st.tuples(st.just("restart"), st.sampled_from(["stopped", "crashed", "lost a save"])),
)
SCRIPTS = st.lists(STEPS, max_size=30)
PARAMS = st.builds(
    lambda strategy, co, total: Params(
        duration_s=5,
        warmup_s=2,
        slot_s=SLOT_S,
        period_s=SLOT_S * N_SLOTS,
        strategy=strategy,
        colocation=frozenset({"address"} if co else ()),
        deployments=total,
    ),
    st.sampled_from(["uniform", "fastest"]),
    st.booleans(),
    st.sampled_from([1, 1, 2]),
)


class Saved:
    """What is in the store."""

    def __init__(self) -> None:
        self.progress: ev.Progress | None = None
        self.rows: dict[Fingerprint, PlanRow] = {}

    def save(self, effect: do.SaveProgress) -> None:
        self.progress = effect.progress
        old = () if effect.whole else self.rows.values()
        self.rows = {row.fingerprint: row for row in [*old, *effect.rows]}

    def copy(self) -> "Saved":
        other = Saved()
        other.progress, other.rows = self.progress, dict(self.rows)
        return other


class Service(World):
    """A coordinator with its surroundings, over restarts; what must hold is checked after each event."""

    def __init__(self, params: Params) -> None:
        super().__init__(params, tuple(self._relay(n) for n in NUMBERS))
        self.saved, self.before = Saved(), Saved()
        self.kinds = dict.fromkeys(NUMBERS, "running")
        self.limits: dict[int, int] = {}
        self.known: set[Fingerprint] = set()
        """Relays that the schedule has to have a place for."""
        self.begun: Counter[Fingerprint] = Counter()
        """Measurements that were begun in the period."""
        self.period_s = 0.0
        self.seen: set[int] = set()
        self.asked: list[int] = []
        """Measurements that the controller waits for."""
        self.told: list[int] = []
        self.begin()

    @staticmethod
    def _relay(number: int, **changes: Any) -> Any:
        rate = {"unmeasured": False, "consensus_weight_kb": 200 * 4**number} if number > 1 else {}
        return relay(number, **{**rate, **changes})

    def begin(self) -> None:
        rows, progress = tuple(self.saved.rows.values()), self.saved.progress
        self.say(ev.Started(b"\x07" * 32, (), (), progress, rows, secret=b"\x08" * 32))
        if progress is not None and progress.layout:
            assert {fp: row for fp, row in self.saved.rows.items() if row.slot is not None} == {
                row.fingerprint: row for row in rows if row.slot is not None
            }
            assert self.core.state.period.runs == {row.fingerprint: row.runs for row in rows if row.runs}
        self.load_all()
        for name in ("m1", "m2"):
            self.say(ev.MeasurerJoined(name, 10**8, "127.0.0.1"))
        for number in NUMBERS:
            self.offer(number)

    def load_all(self) -> None:
        states = {n: kind for n, kind in self.kinds.items() if kind != "left"}
        self.relays = tuple(self._relay(n, running=kind != "offline") for n, kind in states.items())
        lines = [
            f"{'deny' if self.kinds[n] == 'denied' else 'allow'} {relay(n).fingerprint} "
            + ("" if self.kinds[n] == "denied" else f"mode=loop rate={self.limits.get(n, 10**6)}")
            for n in NUMBERS
        ]
        self.load("\n".join(lines))

    # --- one event ---

    def say(self, event: object) -> list[Any]:
        schedule = self.core.state.period.schedule
        effects = super().say(event)
        for effect in self.of(do.SaveProgress, effects):
            self.before = self.saved.copy()
            self.saved.save(effect)
        self.told += [
            e.data["meas_id"] for e in self.of(do.SendToCtrl, effects) if e.data.get("event") == "done"
        ]
        state = self.core.state
        if state.period.schedule is not schedule:
            self.known &= {fp for fp, one in state.relays.items() if refusal(state, one) is None}
            self.known |= {fp for fp in state.relays if is_eligible(state, fp)}
        self.check()
        return effects

    def check(self) -> None:
        self.check_begun()
        self.check_places()
        self.check_saved()

    def check_begun(self) -> None:
        state = self.core.state
        if state.period.start_utc_s != self.period_s:
            self.period_s, self.begun = state.period.start_utc_s, Counter()
        new = [meas for meas in state.measurements.values() if meas.meas_id not in self.seen]
        self.seen |= state.measurements.keys()
        for meas in new:
            self.begun[meas.relay.fingerprint] += 1
            assert not meas.scheduled or self.begun[meas.relay.fingerprint] <= 2
            limit = state.rules[meas.relay.fingerprint].rate_limit_bytes
            assert limit is None or meas.allocated_bytes <= limit
        running = [meas for meas in state.measurements.values() if meas.phase in RUNNING]
        assert max(Counter(m.relay.fingerprint for m in state.measurements.values()).values(), default=1) == 1
        for name in {name for meas in new for name in meas.shares}:
            used = sum(m.shares[name].allocated_bytes for m in running if name in m.shares)
            assert used <= state.team[name].capacity_bytes

    def check_places(self) -> None:
        state, period = self.core.state, self.core.state.period
        if period.schedule is None:
            return
        assert not period.schedule.unplaced
        places = Counter(placement.fingerprint for placement in period.schedule.placements())
        places.update(period.waiting.keys())
        places.update(period.done.keys())
        places.update(request.fingerprint for request in state.queue if request.scheduled)
        places.update(m.relay.fingerprint for m in state.measurements.values() if m.scheduled)
        assert max(places.values(), default=1) == 1, places
        for fingerprint in self.known:
            if is_eligible(state, fingerprint) and period.runs.get(fingerprint, 0) < 2:
                assert fingerprint in places

    def check_saved(self) -> None:
        state, rows = self.core.state, self.saved.rows
        placed = state.period.schedule.placements() if state.period.schedule else ()
        slots = {p.fingerprint: (p.slot, p.rate_bytes, p.wanted_bytes, p.group, p.crew) for p in placed}
        kept = {fp: (r.slot, r.rate_bytes, r.wanted_bytes, r.group, r.crew) for fp, r in rows.items()}
        if state.period.schedule is not None:
            assert slots == {fp: of for fp, of in kept.items() if of[0] is not None}
        assert state.period.done.keys() == {fp for fp, row in rows.items() if row.done}
        assert state.period.runs == {fp: row.runs for fp, row in rows.items() if row.runs}
        assert state.raised == {fp: row.raised_bytes for fp, row in rows.items() if row.raised_bytes}
        assert state.period.waiting.keys() <= rows.keys()
        in_work = self.saved.progress.in_work if self.saved.progress else ()
        assert {left.meas_id for left in in_work} == state.measurements.keys() | state.left_behind.keys()

    # --- what happens ---

    def play(self, step: tuple[Any, ...]) -> None:
        kind, *rest = step
        getattr(self, "_" + kind.replace(" ", "_"))(*rest)

    def _sleep(self, seconds: float) -> None:
        self.sleep(seconds)

    def _join(self, name: str, capacity_bytes: int) -> None:
        self.say(ev.MeasurerJoined(name, capacity_bytes, "127.0.0.1"))

    def _part(self, name: str) -> None:
        self.say(ev.MeasurerGone(name, "gone"))

    def _relay_is(self, number: int, kind: str) -> None:
        self.kinds[number] = kind
        self.load_all()

    def _limit(self, number: int, mbit: int) -> None:
        self.limits[number] = mbit
        self.load_all()

    def offer(self, number: int) -> None:
        fingerprint = relay(number).fingerprint
        answers = self.of(do.AnswerOffer, self.say(ev.RelayOffered(number, fingerprint)))
        assert [answer.offer_id for answer in answers] == [number]
        if is_eligible(self.core.state, fingerprint):
            self.known.add(fingerprint)
            self.check()

    _offered = offer

    def _taken_back(self, number: int) -> None:
        fingerprint = relay(number).fingerprint
        answers = self.of(do.AnswerOffer, self.say(ev.RelayGone(number, fingerprint, "it left")))
        assert [answer.offer_id for answer in answers] == [number]
        if self.kinds[number] in ("left", "denied"):
            self.known.discard(fingerprint)
        elif self.kinds[number] == "running":
            self.known.add(fingerprint)
            self.check()

    def _results(self, times_estimate: float) -> None:
        """What runs shows so many times what it is thought to be able to."""
        running = [m for m in self.core.state.measurements.values() if m.phase in RUNNING]
        for meas in running:
            for name, share in meas.shares.items():
                ready = wire.ConnectedToRelay(meas_id=meas.meas_id, n_circs=share.n_circs)
                if not share.connected:
                    self.say(ev.MeasurerSaid(name, ready))
        self.sleep(self.params.warmup_s)
        for second in range(1, self.params.duration_s + 1):
            self.sleep(1.0)
            for meas in [m for m in running if m.record is None and m.started is not None]:
                total = min(int(times_estimate * meas.estimate.rate_bytes), meas.allocated_bytes)
                for name, share in meas.shares.items():
                    recv = total * share.allocated_bytes // meas.allocated_bytes
                    report = wire.BwReport(
                        meas_id=meas.meas_id, second=second, sent_bytes=recv, recv_bytes=recv
                    )
                    self.say(ev.MeasurerSaid(name, report))
        self._stored(True)

    def _fail(self, kind: ErrorKind) -> None:
        for meas in list(self.core.state.measurements.values()):
            message = wire.Failure(meas_id=meas.meas_id, code="LAUNCH_CIRCS", kind=kind, reason="x")
            self.say(ev.MeasurerSaid(next(iter(meas.shares)), message))

    def _stored(self, well: bool) -> None:
        for meas in list(self.core.state.measurements.values()):
            if meas.record is not None and well:
                self.say(ev.MeasurementStored(meas.meas_id))
            elif meas.record is not None:
                self.say(ev.MeasurementNotStored(meas.meas_id, "disk full"))

    def _measure(self, number: int) -> None:
        answer = self.ctrl(f"measure {relay(number).fingerprint} wait", CONTROLLER)
        self.asked += [answer["meas_id"]] if answer["kind"] == "OK" else []

    def _cancel(self, which: int) -> None:
        ids = [*self.core.state.measurements, *(request.meas_id for request in self.core.state.queue)]
        if ids:
            self.ctrl(f"cancel {ids[which % len(ids)]}", CONTROLLER)

    def _clock(self, seconds: float) -> None:
        self.utc_s += seconds

    def _restart(self, how: str) -> None:
        if how == "stopped":
            self.say(ev.StopRequested())
            self._fail(ErrorKind.LOCAL)
            self._stored(True)
        if how == "lost a save":
            self.saved = self.before.copy()
            self.begun = Counter({fp: row.runs for fp, row in self.saved.rows.items() if row.runs})
        self.asked, self.told = [], []
        self.core = type(self.core)(self.params)
        self.known = set()
        self.begin()


def played(params: Params, script: list[tuple[Any, ...]]) -> Service:
    service = Service(params)
    for step in script:
        service.play(("relay_is", *step[1:]) if step[0] == "relay" else step)
    return service


@given(PARAMS, SCRIPTS)
@settings(deadline=None, max_examples=200)
def test_each_relay_has_one_place_and_each_question_one_answer(
    params: Params, script: list[tuple[Any, ...]]
) -> None:
    service = played(params, script)
    service.say(ev.StopRequested())
    service.sleep(300)
    assert not service.core.state.measurements
    assert sorted(service.told) == sorted(service.asked)


@given(PARAMS, SCRIPTS)
@settings(deadline=None, max_examples=60)
def test_when_all_is_well_again_everyone_is_measured(params: Params, script: list[tuple[Any, ...]]) -> None:
    """From the next period on, by the end of two slots after the last that was planned; whatever was before."""
    service = played(params, script)
    service.kinds, service.limits = dict.fromkeys(NUMBERS, "running"), {}
    service.load_all()
    for name in ("m1", "m2", "m3"):
        service._join(name, LARGE_BYTES)
    for number in NUMBERS:
        service.offer(number)
    state = service.core.state
    for request in list(state.queue):
        service.ctrl(f"cancel {request.meas_id}", CONTROLLER)
    service._fail(ErrorKind.LOCAL)
    service._stored(True)
    service.sleep(max(0.0, state.period.start_utc_s - service.utc_s))
    next_period_s = (service.utc_s // params.period_s + 1) * params.period_s
    while state.period.start_utc_s < next_period_s:
        service._results(0.1)
        service.sleep(SLOT_S - service.utc_s % SLOT_S + 0.01)
    assert state.period.schedule is not None
    last = max((p.slot for p in state.period.schedule.placements()), default=0)
    for _ in range(slot_of(state, service.utc_s), min(last + 2, N_SLOTS - 1)):
        service._results(0.1)
        service.sleep(SLOT_S - service.utc_s % SLOT_S + 0.01)
    service._results(0.1)
    everyone = {relay(number).fingerprint for number in NUMBERS}
    if params.deployments == 1:
        assert state.period.done.keys() == everyone
    else:  # the slots that are left may all be the others'
        assert state.period.done.keys() | state.period.waiting.keys() == everyone
