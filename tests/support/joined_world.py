"""A whole deployment without sockets: real cores and sessions joined on one virtual clock, with what a test can break.

Real: the coordinator's core, the measurers' cores, the sessions between them. Played: Tor clients, relays (which count
what they carry by themselves), the store, the network. Every host has clocks of its own; a host that is stopped hears
what came when it goes on.
"""

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import zip_longest
from statistics import median
from typing import Any, NamedTuple

from coordinator.core import effects as cdo
from coordinator.core import events as cev
from coordinator.core.handle import Coordinator
from coordinator.core.measurement import RUNNING, SETTING_UP
from coordinator.core.params import Params
from flashflow.config.networks import parse_networks
from flashflow.directory.filter import RelayFilter
from flashflow.model.clock import Now, TimerFired
from flashflow.model.ids import Address, Fingerprint, MeasId
from flashflow.model.results import MeasurementRecord
from flashflow.torctl import events as tor
from flashflow.torctl.client import SendTorCommand, TorCameUp, TorReplied, TorWasLost
from flashflow.torctl.commands import FarEnd
from flashflow.wire.events import LinkClosed, MessageReceived, NotDelivered, Opened, SessionEvent
from flashflow.wire.rules import Phase as LinkPhase
from flashflow.wire.rules import Role
from flashflow.wire.session import Session
from measurer.core import effects as mdo
from measurer.core import events as mev
from measurer.core.handle import MeasurerCore
from measurer.core.state import Limits
from support.coordinator_world import MIDNIGHT, relay, stored

CAPACITY_BYTES = 2_000_000
BACKGROUND_BYTES = 100_000
MAX_RATE_BYTES = 10_000_000
HOP_S = 0.02
RESUME_S = 5.0
BACKOFF_S = 1.0
FAR_END = FarEnd(Address("127.0.0.1", 4000), Fingerprint("CD" * 20), b"e" * 32, b"n" * 32)


class Clock:
    """Virtual time, and what is to happen when."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now_s + max(0.0, delay_s), next(self._count), action))

    def run_until(self, end_s: float, enough: Callable[[], bool] = lambda: False) -> bool:
        """Whether it was `enough` before `end_s`."""
        while not enough():
            if not self._heap or self._heap[0][0] > end_s:
                self.now_s = end_s
                return enough()
            self.now_s, _, action = heapq.heappop(self._heap)
            action()
        return True


@dataclass
class Host:
    """A machine with a process on it."""

    world: "World"
    name: str
    utc_offset_s: float = 0.0
    life: int = 0
    stopped: bool = False
    kept: list[Callable[[], None]] = field(default_factory=list)
    tor_life: int = 0
    tor_delay_s: float = HOP_S
    tor_runs: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def now(self) -> Now:
        mono_s = self.world.clock.now_s
        return Now(mono_s, MIDNIGHT + 30.0 + mono_s - 1000.0 + self.utc_offset_s)

    def soon(self, delay_s: float, action: Callable[[], None]) -> None:
        """In this life of the process only; later, if it is stopped then."""
        life = self.life

        def due() -> None:
            if life != self.life:
                return
            if self.stopped:
                self.kept.append(due)
            else:
                action()

        self.world.clock.after(delay_s, due)

    def stop_for(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT later."""
        self.stopped = True

        def go_on() -> None:
            self.stopped = False
            self.went_on()
            kept, self.kept = self.kept, []
            for due in kept:
                due()

        self.world.clock.after(seconds, go_on)

    def went_on(self) -> None:
        """It runs again."""

    def say(self, event: object) -> None:
        """The core hears of it, and what follows is done."""
        raise NotImplementedError

    # --- its Tor client ---

    def start_tor(self) -> None:
        self.tor_life += 1
        self.say(TorCameUp())

    def kill_tor(self) -> None:
        self.lose_tor("it ended with status -9")
        self.soon(1.0, self.start_tor)

    def hang_tor(self) -> None:
        """Another control connection takes over: what was begun on the old one ends."""
        self.lose_tor("it did not answer in time")
        self.start_tor()

    def lose_tor(self, reason: str) -> None:
        self.tor_life += 1
        self.stop_traffic()
        self.tor_runs.clear()
        self.say(TorWasLost(reason))

    def stop_traffic(self) -> None:
        """What its Tor client sends ends."""

    def tor_soon(self, action: Callable[[], None], delay_s: float | None = None) -> None:
        life = self.tor_life
        self.soon(
            self.tor_delay_s if delay_s is None else delay_s,
            lambda: action() if life == self.tor_life else None,
        )


class Relay:
    """What a relay carries, by its own count."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self.capacity_bytes = capacity_bytes
        self.background_bytes = BACKGROUND_BYTES
        self.mood = "honest"
        self.rates: dict[tuple[int, str], int] = {}
        self.carried: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
        self.besides: defaultdict[int, list[int]] = defaultdict(list)

    def carry(self, meas_id: int, name: str) -> int:
        """What this measurer gets through in the second that ends now."""
        if self.mood == "mute":
            self.carried[meas_id, name].append(0)
            return 0
        total = sum(rate for (one, _), rate in self.rates.items() if one == meas_id)
        rate = self.rates[meas_id, name]
        room = self.capacity_bytes - self.background_bytes
        through = rate if total <= room else room * rate // total
        self.carried[meas_id, name].append(through)
        return through

    def truth_bytes(self, meas_id: int, mode: str, warmup_s: int) -> float:
        """Median over the seconds of a measurement of what it carried: traffic of it, and in echo mode all other."""
        counts = [seconds for (one, _), seconds in self.carried.items() if one == meas_id]
        besides = self.besides[meas_id][warmup_s:] if mode == "echo" else []
        return median(sum(parts) for parts in zip_longest(*counts, besides, fillvalue=0))


class Link:
    """The network between the coordinator and one measurer."""

    def __init__(self) -> None:
        self.reachable = True
        self.silent = False
        self.delay_s = HOP_S
        self.number = 0


class MeasurerHost(Host):
    """A measurer: core, session, Tor client."""

    def __init__(self, world: "World", name: str) -> None:
        super().__init__(world, name)
        self.link = Link()
        self.heard_live_s = 0.0

    def start(self) -> None:
        self.life += 1
        self.core = MeasurerCore(Limits(MAX_RATE_BYTES, parse_networks("127.0.0.0/8"), 125))
        self.session = Session(Role.MEASURER, self.name, MAX_RATE_BYTES, self.world.epoch())
        self.live = False
        self.wake_s: float | None = None
        self.tor_runs = {}
        self.soon(0.1, self.start_tor)
        self.soon(0.1, self.connect)

    def end(self) -> None:
        """kill -9: its traffic ends with it, the kernel closes its connection."""
        self.stop_traffic()
        self.drop_link("connection reset")
        self.life += 1

    def stop_traffic(self) -> None:
        for target in self.world.relays.values():
            target.rates = {key: rate for key, rate in target.rates.items() if key[1] != self.name}

    def went_on(self) -> None:
        """Its Tor client sent all the while, and its core has its time now to notice."""
        self.heard_live_s = self.now.mono_s

    # --- session ---

    def connect(self) -> None:
        if not self.link.reachable or not self.world.coordinator.up:
            self.soon(BACKOFF_S, self.connect)
            return
        self.link.number += 1
        self.session.connected(self.now.mono_s, self.world.epoch(), "coord")
        self.world.coordinator.accept(self)
        self.pump()

    def drop_link(self, reason: str) -> None:
        """Both ends learn that the connection is gone."""
        if self.session.phase is not LinkPhase.DOWN:
            self.link.number += 1
            self.session.disconnected()
            self.world.coordinator.soon(HOP_S, lambda: self.world.coordinator.lost(self.name, reason))
            self.soon(HOP_S, lambda: self.lost(reason))

    def lost(self, reason: str) -> None:
        if self.live:
            self.live = False
            self.say(mev.LinkDown(reason, self.session.heard_s))
        self.soon(BACKOFF_S, self.connect)

    def pump(self) -> None:
        data = self.session.data_to_send(self.now.mono_s)
        if data and not self.link.silent:
            number, coordinator = self.link.number, self.world.coordinator
            coordinator.soon(self.link.delay_s, lambda: coordinator.receive(self, number, data))
        when = self.session.next_timer()
        if when is not None:
            number = self.link.number
            self.soon(when - self.now.mono_s, lambda: self.session_timer(number))

    def session_timer(self, number: int) -> None:
        when = self.session.next_timer()
        if number == self.link.number and when is not None and self.now.mono_s >= when - 1e-9:
            self.take(self.session.handle_timer(self.now.mono_s))

    def receive(self, number: int, data: bytes) -> None:
        if number == self.link.number:
            self.take(self.session.receive(data, self.now.mono_s))

    def take(self, events: list[SessionEvent]) -> None:
        for event in events:
            if isinstance(event, Opened):
                self.live = True
                self.say(mev.LinkUp("127.0.0.1", event.resumed))
            elif isinstance(event, MessageReceived):
                self.say(mev.CoordinatorSaid(event.message))
                self.session.take_over(event.seq)
        self.heard_live_s = self.session.heard_s
        self.pump()
        for event in events:
            if isinstance(event, LinkClosed):
                self.drop_link(event.reason)

    # --- core ---

    def say(self, event: object) -> None:
        for effect in self.core.handle(event, self.now):
            if isinstance(effect, mdo.SendToCoordinator):
                self.session.send(effect.message)
                if self.session.phase is LinkPhase.OPEN:
                    self.pump()
            elif isinstance(effect, SendTorCommand):
                self.tor_soon(lambda effect=effect: self.tor_command(effect))
            elif isinstance(effect, mdo.StartFarEnd):
                self.soon(0.2, lambda effect=effect: self.say(mev.FarEndReady(effect.effect_id, (FAR_END,))))
            elif isinstance(effect, mdo.Log):
                self.world.log.append((self.now.mono_s, self.name, effect.text))
        if (when := self.core.next_timer()) is not None and when != self.wake_s:
            self.wake_s = when
            self.soon(when - self.now.mono_s, lambda: self.core_timer(when))

    def core_timer(self, when: float) -> None:
        if self.wake_s == when:
            self.wake_s = None
            self.say(TimerFired())

    # --- its Tor client ---

    def tor_command(self, effect: SendTorCommand) -> None:
        words = effect.line.split()
        meas_id = int(words[1])
        if words[0] == "FF_STOP":
            self.say(TorReplied(effect.effect_id, True, "OK"))
            self.tor_end(meas_id, "STOPPED")
        elif meas_id not in self.tor_runs:
            extras = dict(word.split("=", 1) for word in words[5:])
            target = self.world.relays[Fingerprint(words[2])]
            run = {"relay": target, "n": int(words[3]), "dur": int(words[4]), "second": 0}
            run |= {"warmup": int(extras["WARMUP"]), "rate": int(extras["RATE"]), "mode": extras["MODE"]}
            self.tor_runs[meas_id] = run
            numbers = [str(self.world.next_circ()) for _ in range(run["n"])]
            self.say(
                TorReplied(effect.effect_id, True, f"FF_MEAS {meas_id} LAUNCHED CIRCS={','.join(numbers)}")
            )
            if target.mood == "mute":
                self.tor_soon(lambda: self.tor_end(meas_id, "TIMEOUT"), 4.0)
                return
            gone = target.mood in ("gone", "refuses")
            for number in numbers:
                event = tor.CircEvent(number, *(("FAILED", "LINK_FAILED") if gone else ("BUILT", None)))
                self.tor_soon(lambda event=event: self.say(event), 0.05)
        else:
            run = self.tor_runs[meas_id]
            self.say(TorReplied(effect.effect_id, True, "OK"))
            run["relay"].rates[meas_id, self.name] = run["rate"]
            self.tor_soon(lambda: self.tor_second(meas_id), run["warmup"] + 1.0)

    def tor_second(self, meas_id: int) -> None:
        run = self.tor_runs.get(meas_id)
        if run is None:
            return
        if run["relay"].mood == "gone":
            self.tor_end(meas_id, "RELAY_CLOSED")
            return
        if run["relay"].mood == "forges":
            self.tor_end(meas_id, "ECHO_WRONG")
            return
        assert self.now.mono_s - self.heard_live_s < 8.0, f"{self.name} sends without a session"
        run["second"] += 1
        through = run["relay"].carry(meas_id, self.name)
        report = tor.BwReport(MeasId(meas_id), run["second"], through, through)
        for event in self.world.reports(self.name, report):
            self.say(event)
        if run["second"] < run["dur"]:
            self.tor_soon(lambda: self.tor_second(meas_id), 1.0)
        else:
            self.tor_end(meas_id, None)

    def tor_end(self, meas_id: int, reason: str | None) -> None:
        if (run := self.tor_runs.pop(meas_id, None)) is not None:
            run["relay"].rates.pop((meas_id, self.name), None)
            self.say(tor.MeasEnd(MeasId(meas_id), success=reason is None, reason=reason))


class CoordinatorHost(Host):
    """The coordinator: core, sessions, Tor client, store."""

    def __init__(self, world: "World", params: Params) -> None:
        super().__init__(world, "coord")
        self.params = params
        self.up = False
        self.records: list[MeasurementRecord] = []
        self.progress: Any = None
        self.plan: dict[Fingerprint, Any] = {}
        self.store_fails = False
        self.store_delay_s = 0.05
        self.dies_after_a_record = False

    def start(self) -> None:
        self.life += 1
        self.up = True
        self.core = Coordinator(self.params)
        self.sessions: dict[str, Session] = {}
        self.joined: set[str] = set()
        self.gone_life: defaultdict[str, int] = defaultdict(int)
        self.wake_s: float | None = None
        self.ctrl: list[cdo.SendToCtrl] = []
        self.tor_runs = {}
        started = cev.Started(
            bytes([self.life]) * 32, (), (), self.progress, tuple(self.plan.values()), secret=b"s" * 32
        )
        self.say(started)
        self.say(cev.RelaysLoaded(self.world.network, RelayFilter.parse(self.world.filter_text, "filter")))
        self.soon(0.1, self.start_tor)

    def end(self) -> None:
        self.life += 1
        self.up = False
        self.world.forget_phases()
        for name, session in self.sessions.items():
            if session.phase is not LinkPhase.DOWN:
                self.world.measurers[name].drop_link("connection reset")

    # --- sessions ---

    def accept(self, host: MeasurerHost) -> None:
        session = self.sessions.get(host.name)
        if session is None:
            session = self.sessions[host.name] = Session(Role.COORDINATOR, "coord", 0, self.world.epoch())
        session.connected(self.now.mono_s, self.world.epoch(), host.name)
        self.pump(host)

    def lost(self, name: str, reason: str) -> None:
        session = self.sessions.get(name)
        if session is None or session.phase is LinkPhase.DOWN:
            return
        session.disconnected()
        self.gone_life[name] += 1
        life = self.gone_life[name]
        self.soon(RESUME_S, lambda: self.gone(name, reason) if life == self.gone_life[name] else None)

    def gone(self, name: str, reason: str) -> None:
        if name not in self.joined:
            return
        self.joined.discard(name)
        self.take_notices(self.sessions[name].abandon(reason))
        self.say(cev.MeasurerGone(name, reason))

    def pump(self, host: MeasurerHost) -> None:
        session = self.sessions[host.name]
        data = session.data_to_send(self.now.mono_s)
        number = host.link.number
        if data and not host.link.silent:
            host.soon(host.link.delay_s, lambda: host.receive(number, data))
        when = session.next_timer()
        if when is not None:
            self.soon(when - self.now.mono_s, lambda: self.session_timer(host, number))

    def session_timer(self, host: MeasurerHost, number: int) -> None:
        session = self.sessions[host.name]
        when = session.next_timer()
        if number == host.link.number and when is not None and self.now.mono_s >= when - 1e-9:
            self.take(host, session.handle_timer(self.now.mono_s))

    def receive(self, host: MeasurerHost, number: int, data: bytes) -> None:
        if number == host.link.number:
            self.take(host, self.sessions[host.name].receive(data, self.now.mono_s))

    def take(self, host: MeasurerHost, events: list[SessionEvent]) -> None:
        session = self.sessions[host.name]
        for event in events:
            if isinstance(event, Opened):
                self.gone_life[host.name] += 1
                if not (event.resumed and host.name in self.joined):
                    if host.name in self.joined:
                        self.say(cev.MeasurerGone(host.name, "it began a new session"))
                    self.joined.add(host.name)
                    self.say(cev.MeasurerJoined(host.name, event.capacity_bytes, "127.0.0.1"))
            elif isinstance(event, MessageReceived):
                self.say(cev.MeasurerSaid(host.name, event.message))
                session.take_over(event.seq)
        self.take_notices(events)
        self.pump(host)
        for event in events:
            if isinstance(event, LinkClosed):
                host.drop_link(event.reason)

    def take_notices(self, events: list[SessionEvent]) -> None:
        self.world.undelivered += [event for event in events if isinstance(event, NotDelivered)]

    # --- core ---

    def say(self, event: object) -> None:
        for effect in self.core.handle(event, self.now):
            self._carry_out(effect)
        self.world.saw(self.core)
        if (when := self.core.next_timer()) is not None and when != self.wake_s:
            self.wake_s = when
            self.soon(when - self.now.mono_s, lambda: self.core_timer(when))

    def core_timer(self, when: float) -> None:
        if self.wake_s == when:
            self.wake_s = None
            self.say(TimerFired())

    def _carry_out(self, effect: Any) -> None:
        if isinstance(effect, cdo.SendToMeasurer):
            if effect.name in self.joined:
                self.sessions[effect.name].send(effect.message)
                if self.sessions[effect.name].phase is LinkPhase.OPEN:
                    self.pump(self.world.measurers[effect.name])
        elif isinstance(effect, SendTorCommand):
            self.tor_soon(lambda: self.tor_command(effect))
        elif isinstance(effect, cdo.SendToCtrl):
            self.ctrl.append(effect)
        elif isinstance(effect, cdo.SaveMeasurement):
            self.soon(self.store_delay_s, lambda: self._save(effect))
        elif isinstance(effect, cdo.SaveProgress):
            self.soon(self.store_delay_s, lambda: self._keep(effect))
        elif isinstance(effect, cdo.StopService):
            self.up = False
        elif isinstance(effect, cdo.Log):
            self.world.log.append((self.now.mono_s, self.name, effect.text))

    def _save(self, effect: cdo.SaveMeasurement) -> None:
        record = effect.record
        known = any(
            (one.meas_id, one.started_utc_s) == (record.meas_id, record.started_utc_s) for one in self.records
        )
        if effect.if_absent and known:
            self.say(cev.MeasurementStored(record.meas_id))
        elif self.store_fails:
            self.say(cev.MeasurementNotStored(record.meas_id, "database or disk is full"))
        else:
            self.records.append(record)
            if self.dies_after_a_record:
                self.dies_after_a_record = False
                self.end()
                self.world.clock.after(2.0, self.start)
            else:
                self.say(cev.MeasurementStored(record.meas_id))

    def _keep(self, effect: cdo.SaveProgress) -> None:
        if self.store_fails:
            self.say(cev.StoreFailed("database or disk is full"))
            return
        self.progress = effect.progress
        rows = {} if effect.whole else self.plan
        self.plan = {**rows, **{row.fingerprint: row for row in effect.rows}}
        self.say(stored(effect))

    def ask(self, line: str) -> dict[str, Any]:
        """A controller's command and its answer."""
        before = len(self.ctrl)
        self.say(cev.CtrlSaid(1, line))
        return next(answer.data for answer in self.ctrl[before:] if answer.kind != "EVENT")

    # --- its Tor client ---

    def tor_command(self, effect: SendTorCommand) -> None:
        words = effect.line.split()
        meas_id = int(words[1])
        if words[0] == "FF_STOP":
            self.say(TorReplied(effect.effect_id, True, "OK"))
            self.tor_end(meas_id, "STOPPED")
        elif meas_id not in self.tor_runs:
            target = self.world.relays[Fingerprint(words[2])]
            circ = str(self.world.next_circ())
            self.tor_runs[meas_id] = {"relay": target, "dur": int(words[3]), "second": 0, "circ": circ}
            self.say(TorReplied(effect.effect_id, True, f"LAUNCHED {circ}"))
            self.tor_soon(lambda: self._params(meas_id), 0.1)
        else:
            self.say(TorReplied(effect.effect_id, True, "OK"))
            self.tor_soon(lambda: self._second(meas_id), 1.0 + 2 * HOP_S)

    def _params(self, meas_id: int) -> None:
        run = self.tor_runs.get(meas_id)
        if run is None or run["relay"].mood == "mute":
            return
        if run["relay"].mood == "gone":
            self.say(tor.CircEvent(run["circ"], "FAILED", "LINK_FAILED"))
            self.tor_end(meas_id, "LINK_FAILED")
            return
        self.say(tor.CircEvent(run["circ"], "BUILT", None))
        self.say(tor.ParamsSent(MeasId(meas_id)))
        accepted = run["relay"].mood != "refuses"
        self.say(tor.ParamsOk(MeasId(meas_id), accepted, None if accepted else "REFUSED_BUSY"))
        if not accepted:
            self.tor_end(meas_id, "REFUSED_BUSY")

    def _second(self, meas_id: int) -> None:
        run = self.tor_runs.get(meas_id)
        if run is None:
            return
        if run["relay"].mood == "gone":
            self.say(tor.CircEvent(run["circ"], "CLOSED", "CHANNEL_CLOSED"))
            self.tor_end(meas_id, "RELAY_CLOSED")
            return
        run["second"] += 1
        mute = run["relay"].mood == "mute"
        background = 0 if mute else run["relay"].background_bytes
        run["relay"].besides[meas_id].append(background)
        if not mute:
            self.say(tor.BwReport(MeasId(meas_id), run["second"], background, background))
        if run["second"] < run["dur"]:
            self.tor_soon(lambda: self._second(meas_id), 1.0)
        else:
            self.tor_end(meas_id, None)

    def tor_end(self, meas_id: int, reason: str | None) -> None:
        if self.tor_runs.pop(meas_id, None) is not None:
            self.say(tor.MeasEnd(MeasId(meas_id), success=reason is None, reason=reason))


class Stay(NamedTuple):
    """How long a measurement was in a phase."""

    meas_id: int
    phase: str
    """A phase's value; also `set-up` for those before the traffic together, `suspected` while it is (`suspect`)."""
    lasted_s: float


class World:
    """The deployment: two measurers, two relays."""

    def __init__(self, mode: str = "echo", measurers: tuple[str, ...] = ("m1", "m2")) -> None:
        self.clock = Clock()
        self.network = (relay(1), relay(2))
        self.relays = {one.fingerprint: Relay() for one in self.network}
        self.filter_text = "".join(f"allow {one.fingerprint} mode={mode}\n" for one in self.network)
        self.mode = mode
        self.log: list[tuple[float, str, str]] = []
        self.undelivered: list[NotDelivered] = []
        self.begun: dict[int, tuple[float, Fingerprint]] = {}
        self.staying: dict[tuple[int, str], float] = {}
        self.stays: list[Stay] = []
        self.reports: Callable[[str, tor.BwReport], list[tor.BwReport]] = lambda name, report: [report]
        self._epochs = itertools.count(1)
        self._circs = itertools.count(1)
        self.params = Params(duration_s=5, warmup_s=2, slot_s=60, period_s=86400)
        self.coordinator = CoordinatorHost(self, self.params)
        self.measurers = {name: MeasurerHost(self, name) for name in measurers}
        self.coordinator.start()
        for host in self.measurers.values():
            host.start()
        self.sleep(2.0)

    def epoch(self) -> str:
        return f"{next(self._epochs):032x}"

    def next_circ(self) -> int:
        return next(self._circs)

    def saw(self, core: Coordinator) -> None:
        """After each event of the coordinator's: what is in work, and how long it was in each phase."""
        now_in = set()
        for meas_id, meas in core.state.measurements.items():
            if meas.recorded_s is not None:
                self.begun.setdefault(meas_id, (self.clock.now_s, meas.relay.fingerprint))
            now_in.add((meas_id, meas.phase.value))
            if meas.phase in SETTING_UP:
                now_in.add((meas_id, "set-up"))
            if meas.suspicion is not None and meas.phase in RUNNING:
                now_in.add((meas_id, "suspected"))
        self._stays_in(now_in)

    def forget_phases(self) -> None:
        """The coordinator ended, and with it whatever was in work."""
        self._stays_in(set())

    def _stays_in(self, now_in: set[tuple[int, str]]) -> None:
        for key in set(self.staying) - now_in:
            self.stays.append(Stay(*key, self.clock.now_s - self.staying.pop(key)))
        for key in now_in - set(self.staying):
            self.staying[key] = self.clock.now_s

    def all_stays(self) -> list[Stay]:
        """Of every measurement in every phase, those that still last included."""
        lasting = [Stay(*key, self.clock.now_s - since_s) for key, since_s in self.staying.items()]
        return self.stays + lasting

    def sleep(self, seconds: float) -> None:
        self.clock.run_until(self.clock.now_s + seconds)

    def phase_of(self, meas_id: int) -> str:
        meas = self.coordinator.core.state.measurements.get(MeasId(meas_id))
        return meas.phase.value if meas else "ended"

    def measure(self, number: int = 1) -> int | None:
        """Ask for a measurement of a relay: its id, or None if there is none to be had now."""
        answer = self.coordinator.ask(f"measure relay{number}") if self.coordinator.up else {}
        return answer.get("meas_id")

    def until_phase(self, meas_id: int, phase: str, more_s: float = 0.0) -> bool:
        """Whether it came to that phase, and `more_s` of it passed."""
        end_s = self.clock.now_s + 40.0
        came = self.clock.run_until(end_s, lambda: self.phase_of(meas_id) in (phase, "ended"))
        self.sleep(more_s)
        return came and self.phase_of(meas_id) == phase

    def record(self, meas_id: int) -> MeasurementRecord | None:
        """The newest record of a measurement, if it was stored."""
        found = [record for record in self.coordinator.records if record.meas_id == meas_id]
        return found[-1] if found else None

    def measured(self, meas_id: int, within_s: float) -> MeasurementRecord | None:
        """Its record, once it is stored."""
        self.clock.run_until(self.clock.now_s + within_s, lambda: self.record(meas_id) is not None)
        return self.record(meas_id)

    def ready(self) -> bool:
        """Whether a measurement could begin."""
        state = self.coordinator.core.state
        everyone = len(state.connected_team()) == len(self.measurers)
        return self.coordinator.up and not state.draining and state.tor_up and everyone

    def add_measurer(self) -> str:
        """Another measurer, which comes up now: its name."""
        name = f"m{len(self.measurers) + 1}"
        self.measurers[name] = MeasurerHost(self, name)
        self.measurers[name].start()
        return name

    def quiet(self) -> bool:
        """Whether nobody has a measurement in work."""
        hosts = [self.coordinator, *self.measurers.values()]
        return not any(host.core.state.measurements or host.tor_runs for host in hosts)
