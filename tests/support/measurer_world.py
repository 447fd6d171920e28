"""A measurer's core on a virtual clock, with a coordinator and a Tor client that a test plays by hand."""

from typing import Any, TypeVar

from flashflow.config.networks import parse_networks
from flashflow.model.clock import Now, TimerFired
from flashflow.model.ids import Address, Fingerprint
from flashflow.torctl import events as tor
from flashflow.torctl.client import SendTorCommand, TorCameUp, TorReplied
from flashflow.torctl.commands import FarEnd
from flashflow.wire import messages as wire
from measurer.core import effects as do
from measurer.core import events as ev
from measurer.core.handle import MeasurerCore
from measurer.core.measurement import Measurement, Phase
from measurer.core.state import Limits
from support.wire_pair import order

T = TypeVar("T")
MAX_RATE_BYTES = 10_000_000
FAR_ENDS = tuple(
    FarEnd(Address("192.0.2.1", 4000 + number), Fingerprint("CD" * 20), b"e" * 32, bytes([255] * 32))
    for number in range(2)
)


class World:
    """Drives MeasurerCore: `say` an event, look at the effects, let time pass."""

    def __init__(self, networks: str = "192.0.2.0/24, 2001:db8::/32", *, loops: bool = True) -> None:
        self.core = MeasurerCore(Limits(MAX_RATE_BYTES, parse_networks(networks), 125, loops))
        self.mono_s = 500.0
        self.effects: list[Any] = []

    def say(self, *events: object) -> list[Any]:
        """Some events; returns the effects of all of them and keeps them in `effects`."""
        came: list[Any] = []
        for event in events:
            came += self.core.handle(event, Now(self.mono_s, 1_800_000_000.0 + self.mono_s))
        self.effects += came
        return came

    def up(self) -> "World":
        """Connected, with a Tor client."""
        self.say(ev.LinkUp("192.0.2.1", resumed=False), TorCameUp())
        return self

    def coordinator(self, *messages: wire.Message) -> list[Any]:
        """The coordinator says something."""
        return self.say(*(ev.CoordinatorSaid(message) for message in messages))

    def advance(self, seconds: float) -> list[Any]:
        """Let time pass; timers fire on the way."""
        came, end_s = [], self.mono_s + seconds
        while (when := self.core.next_timer()) is not None and when <= end_s:
            self.mono_s = max(self.mono_s, when)
            came += self.say(TimerFired())
        self.mono_s = end_s
        return came

    def meas(self, meas_id: int = 1) -> Measurement | None:
        """A measurement, or None if it is forgotten."""
        return next((found for key, found in self.core.state.measurements.items() if key == meas_id), None)

    def phase(self, meas_id: int = 1) -> Phase | None:
        """Its phase."""
        meas = self.meas(meas_id)
        return None if meas is None else meas.phase

    def reply(self, effects: list[Any], text: str = "OK", *, ok: bool = True) -> list[Any]:
        """The Tor client answers the last command among `effects`."""
        return self.say(TorReplied(commands(effects)[-1].effect_id, ok, text))

    def launch(self, meas_id: int = 1, circuits: str = "1,2,3,4", **changes: object) -> list[Any]:
        """ConnectToRelay and the reply to it."""
        effects = self.coordinator(order(meas_id, **changes))
        return self.reply(effects, f"FF_MEAS {meas_id} LAUNCHED CIRCS={circuits}")

    def far_end_ready(self, effects: list[Any]) -> list[Any]:
        """The far end that was started by the last such effect listens."""
        return self.say(ev.FarEndReady(only(effects, do.StartFarEnd)[-1].effect_id, FAR_ENDS))

    def built(self, *circuits: int) -> list[Any]:
        """Circuits are built."""
        return self.say(*(tor.CircEvent(str(number), "BUILT") for number in circuits))

    def failed(self, *circuits: int, reason: str | None = "LINK_FAILED", status: str = "FAILED") -> list[Any]:
        """Circuits failed."""
        return self.say(*(tor.CircEvent(str(number), status, reason) for number in circuits))

    def active(self, meas_id: int = 1, circuits: tuple[int, ...] = (1, 2, 3, 4)) -> "World":
        """A measurement that sends."""
        self.launch(meas_id, ",".join(map(str, circuits)))
        self.built(*circuits)
        self.reply(self.coordinator(wire.Go(meas_id=meas_id)))
        return self


def in_phase(phase: Phase, mode: str = "echo") -> World:
    """Measurement 1 in a phase; PREPARING is loop mode's."""
    world = World().up()
    effects = world.coordinator(order(mode="loop" if phase is Phase.PREPARING else mode))
    if mode == "loop" and phase is not Phase.PREPARING:
        effects = world.far_end_ready(effects)
    if phase not in (Phase.PREPARING, Phase.LAUNCHING):
        world.reply(effects, "FF_MEAS 1 LAUNCHED CIRCS=1,2,3,4")
    if phase in (Phase.READY, Phase.STARTING, Phase.ACTIVE):
        world.built(1, 2, 3, 4)
    if phase in (Phase.STARTING, Phase.ACTIVE):
        effects = world.coordinator(wire.Go(meas_id=1))
        if phase is Phase.ACTIVE:
            world.reply(effects)
    if phase is Phase.STOPPING:
        world.coordinator(wire.Stop(meas_id=1, reason="test"))
    assert world.phase() is phase
    return world


def only(effects: list[Any], kind: type[T]) -> list[T]:
    """The effects of one type."""
    return [effect for effect in effects if isinstance(effect, kind)]


def commands(effects: list[Any]) -> list[SendTorCommand]:
    """The commands to the Tor client."""
    return only(effects, SendTorCommand)


def lines(effects: list[Any]) -> list[str]:
    """Their lines."""
    return [command.line for command in commands(effects)]


def sent(effects: list[Any]) -> list[wire.Message]:
    """The messages to the coordinator."""
    return [effect.message for effect in only(effects, do.SendToCoordinator)]


def failures(effects: list[Any]) -> list[tuple[int | None, str, str]]:
    """Measurement, code and kind of the failures told."""
    return [
        (message.meas_id, message.code, message.kind.value)
        for message in sent(effects)
        if isinstance(message, wire.Failure)
    ]
