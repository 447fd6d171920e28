"""A coordinator's core on a virtual clock, with a team, relays and a Tor client that a test plays by hand."""

from typing import Any, TypeVar

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.handle import Coordinator
from coordinator.core.measurement import Measurement
from coordinator.core.params import Params
from flashflow.directory.filter import RelayFilter
from flashflow.model.clock import Now, TimerFired
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Address, Fingerprint, MeasId
from flashflow.model.network import ConsensusHeader
from flashflow.model.plan import PlanRow
from flashflow.model.relay import RelayInfo
from flashflow.model.results import Standing
from flashflow.store.latest import LatestResult
from flashflow.torctl import events as tor
from flashflow.torctl.client import TorCameUp, TorReplied
from flashflow.wire import messages as wire

MIDNIGHT = 1_800_000_000.0 - 1_800_000_000.0 % 86400
T = TypeVar("T")


def relay(number: int, nickname: str | None = None, **changes: Any) -> RelayInfo:
    """Relay `number` of the test network."""
    fields: dict[str, Any] = {
        "fingerprint": Fingerprint(f"{number:040X}"),
        "nickname": nickname or f"relay{number}",
        "address": Address("127.0.0.1", 9000 + number),
        "ed25519": bytes([number]) * 32,
        "ntor_key": bytes([number + 100]) * 32,
        "bandwidth_avg_bytes": 10**9,
        "bandwidth_burst_bytes": 10**9,
        "bandwidth_observed_bytes": 0,
        "consensus_weight_kb": 1,
        "unmeasured": True,
    }
    return RelayInfo(**{**fields, **changes})


def stored(effect: do.SaveProgress) -> ev.ProgressStored:
    """What the store says when it has done that."""
    return ev.ProgressStored(tuple(left.meas_id for left in effect.progress.in_work))


class World:
    """Drives Coordinator: `say` an event, look at the effects, let time pass."""

    def __init__(
        self, params: Params | None = None, relays: tuple[RelayInfo, ...] = (relay(1), relay(2))
    ) -> None:
        self.params = params or Params(duration_s=5, warmup_s=2, slot_s=60, period_s=86400)
        self.core = Coordinator(self.params)
        self.mono_s = 1000.0
        self.utc_s = MIDNIGHT + 30.0
        self.relays = relays
        self.effects: list[Any] = []
        self.store_is_prompt = True
        """What a restart has to know is on disk at once."""

    @property
    def now(self) -> Now:
        return Now(self.mono_s, self.utc_s)

    def say(self, event: object) -> list[Any]:
        """One event, and the store's answer to it; returns the effects and keeps them in `effects`."""
        effects = self.core.handle(event, self.now)
        for effect in effects:
            if isinstance(effect, do.SaveProgress) and self.store_is_prompt:
                effects += self.core.handle(stored(effect), self.now)
        self.effects += effects
        return effects

    def sleep(self, seconds: float) -> list[Any]:
        """Let time pass, waking the core whenever it asked for it."""
        end, effects = self.mono_s + seconds, []
        while (when := self.core.next_timer()) is not None and when <= end:
            self._advance_to(max(when, self.mono_s + 1e-6))
            effects += self.say(TimerFired())
        self._advance_to(end)
        return effects

    def to_next_slot(self) -> None:
        """Until just after the next slot's begin."""
        self.sleep(self.core.state.next_slot_utc_s - self.utc_s + 0.01)

    def _advance_to(self, mono_s: float) -> None:
        self.utc_s += mono_s - self.mono_s
        self.mono_s = mono_s

    def start(
        self,
        results: tuple[LatestResult, ...] = (),
        filter_text: str = "allow *\n",
        progress: ev.Progress | None = None,
        plan: tuple[PlanRow, ...] = (),
        standings: tuple[Standing, ...] = (),
    ) -> None:
        """Everything up: relays loaded, Tor client there, measurers m1 and m2 of 500 Mbit/s."""
        self.say(
            ev.Started(b"\x07" * 32, results, (), progress, plan, secret=b"\x08" * 32, standings=standings)
        )
        self.load(filter_text)
        self.say(TorCameUp())
        for name in ("m1", "m2"):
            self.say(ev.MeasurerJoined(name, 62_500_000, "127.0.0.1"))
        self.effects.clear()

    def load(self, filter_text: str = "allow *\n", header: ConsensusHeader | None = None) -> list[Any]:
        """`relays` are the consensus."""
        relay_filter = RelayFilter.parse(filter_text, "filter")
        return self.say(ev.RelaysLoaded(self.relays, relay_filter, header or ConsensusHeader()))

    def plan(self) -> dict[Fingerprint, PlanRow]:
        """The plan as the store has it now."""
        rows: dict[Fingerprint, PlanRow] = {}
        for effect in self.of(do.SaveProgress):
            rows = {row.fingerprint: row for row in [*(() if effect.whole else rows.values()), *effect.rows]}
        return rows

    def ctrl(self, line: str, conn: int = 1) -> dict[str, Any]:
        """Send a line; returns the answer's JSON with its kind under `kind`."""
        (answer,) = self.of(
            do.SendToCtrl, [e for e in self.say(ev.CtrlSaid(conn, line)) if getattr(e, "kind", "") != "EVENT"]
        )
        return {"kind": answer.kind, **answer.data}

    def shown_team(self) -> list[dict[str, Any]]:
        """The core's part of the answer to `measurers`; the sessions' figures are added outside."""
        (shown,) = self.of(do.ShowMeasurers, self.say(ev.CtrlSaid(1, "measurers")))
        return list(shown.team["measurers"])

    def of(self, kind: type[T], effects: list[Any] | None = None) -> list[T]:
        """The effects of one type."""
        return [
            effect for effect in (self.effects if effects is None else effects) if isinstance(effect, kind)
        ]

    def events_to(self, conn: int, name: str) -> list[dict[str, Any]]:
        """The EVENT objects of one name that a controller got."""
        sent = [e for e in self.of(do.SendToCtrl) if e.conn == conn and e.kind == "EVENT"]
        return [e.data for e in sent if e.data["event"] == name]

    @property
    def meas(self) -> Measurement:
        """The one measurement in work."""
        (found,) = self.core.state.measurements.values()
        return found

    def reply(self, text: str = "OK", ok: bool = True) -> list[Any]:
        """The Tor client answers the newest command that is no FF_STOP."""
        pending = self.core.state.tor_commands
        effect_id = max(key for key, (_, purpose) in pending.items() if purpose != "stop")
        return self.say(TorReplied(effect_id, ok, text))

    def to_phase(self, phase: str, nick: str = "relay1") -> MeasId:
        """`measure nick wait` by controller 1, and on to the phase named."""
        self.store_is_prompt = False
        meas_id = MeasId(self.ctrl(f"measure {nick} wait")["meas_id"])
        steps = {
            "recording": lambda: None,
            "launching": self.to_disk,
            "params": lambda: self.reply("LAUNCHED 7"),
            "connecting": lambda: self.say(tor.ParamsOk(meas_id, True, None)),
            "starting": self._connect_all,
            "active": self.reply,
        }
        for name, step in steps.items():
            step()
            assert self.meas.phase.value == name
            if name == phase:
                break
        return meas_id

    def to_disk(self) -> list[Any]:
        """The store has done what it was given, and is prompt from now on."""
        self.store_is_prompt = True
        return self.say(stored(self.of(do.SaveProgress)[-1]))

    def _connect_all(self) -> None:
        for name, share in list(self.meas.shares.items()):
            self.say(
                ev.MeasurerSaid(name, wire.ConnectedToRelay(meas_id=self.meas.meas_id, n_circs=share.n_circs))
            )

    def report(self, name: str, second: int, recv: int, sent: int = 0) -> list[Any]:
        """A measurer's report."""
        message = wire.BwReport(meas_id=self.meas.meas_id, second=second, sent_bytes=sent, recv_bytes=recv)
        return self.say(ev.MeasurerSaid(name, message))

    def background(self, relay_second: int, sent: int, recv: int) -> list[Any]:
        """The relay's report, in its own numbers, which begin with the warm-up."""
        return self.say(tor.BwReport(self.meas.meas_id, relay_second, sent, recv))

    def play_seconds(self, first: int, last: int, recv: int = 1_000_000, bg: int = 0) -> None:
        """Seconds of the relay's numbers, warm-up included; both measurers report from the warm-up's end on."""
        for n in range(first, last + 1):
            self.sleep(1.0)
            self.background(n, bg, bg)
            second = n - self.params.warmup_s
            for name in [*self.meas.shares] if second >= 1 else []:
                self.report(name, second, recv)

    def store(self) -> dict[str, Any]:
        """The record reaches the disk; returns what watcher 1 is told."""
        record = self.of(do.SaveMeasurement)[-1].record
        self.say(ev.MeasurementStored(record.meas_id))
        return self.events_to(1, "done")[-1]

    def fail_all(self, kind: ErrorKind = ErrorKind.NETWORK) -> None:
        """What is in work fails by a measurer's word, and is stored."""
        for meas in list(self.core.state.measurements.values()):
            message = wire.Failure(meas_id=meas.meas_id, code="LAUNCH_CIRCS", kind=kind, reason="x")
            self.say(ev.MeasurerSaid(next(iter(meas.shares)), message))
        self.store_all()

    def store_all(self) -> None:
        """What has ended and waits for the store is on disk."""
        for meas_id in list(self.core.state.measurements):
            self.say(ev.MeasurementStored(meas_id))
