from dataclasses import dataclass, field

import pytest

from flashflow.model.clock import Now
from flashflow.model.errors import NetworkError
from flashflow.orlink.meas import MeasBg, MeasParamsOk
from flashflow.relay.core.admission import AdmissionRules
from flashflow.relay.core.effects import Role
from flashflow.relay.core.events import EchoBegan, JoinReceived, LinkLost, ParamsReceived
from flashflow.relay.core.state import State
from flashflow.relay.measuring import BackgroundMeter, Measuring
from support.mini_client import params

CERTIFICATE, TOKEN = b"c" * 32, b"t" * 16
COORDINATOR, MEASURER, STRANGER = 1, 2, 3
RATE = 50_000_000.0


@dataclass
class FakeLink:
    number: int
    role: Role = Role.STRANGER
    host: str = "192.0.2.1"
    full: bool = False
    sent: list[object] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def send_measurement(self, circ_id: int, message: object) -> None:
        if self.full:
            raise NetworkError("it does not read")
        self.sent.append(message)

    def flush(self, now_s: float) -> None:
        self.ended.append("flush")

    def linger(self, now_s: float) -> None:
        self.ended.append("linger")


class Bench:
    """Links by number, and the core that acts on them."""

    def __init__(self) -> None:
        self.links = {number: FakeLink(number) for number in (COORDINATOR, MEASURER, STRANGER)}
        self.now_s = 50.0
        self.saved: list[tuple[dict[bytes, tuple[float, ...]], Now]] = []
        self.dropped: list[tuple[int, str]] = []
        core = State(AdmissionRules(frozenset({CERTIFICATE})))
        self.measuring = Measuring(core, self, 0.25, lambda: RATE, BackgroundMeter(), self.clock, self.save)

    def save(self, accepted: dict[bytes, tuple[float, ...]], now: Now) -> None:
        self.saved.append((accepted, now))

    def clock(self) -> Now:
        return Now(self.now_s, 0.0)

    def passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.measuring.tick(self.now_s)

    def find(self, number: int) -> FakeLink | None:
        return self.links.get(number)

    def wake(self, link: FakeLink) -> None:
        link.woken = True

    def role_changed(self, link: FakeLink) -> None:
        link.role_seen = link.role

    def drop(self, link: FakeLink, reason: str) -> None:
        self.dropped.append((link.number, reason))
        del self.links[link.number]
        self.measuring.post(LinkLost(link.number))

    def run(self, duration_s: int = 1) -> None:
        post = self.measuring.post
        post(ParamsReceived(COORDINATOR, 9, CERTIFICATE, params(TOKEN, duration_s=duration_s)))
        post(JoinReceived(MEASURER, 9, "192.0.2.1", True, 7, TOKEN))
        post(EchoBegan(MEASURER))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_effects_reach_the_links(bench) -> None:
    bench.run()
    assert bench.links[COORDINATOR].sent == [MeasParamsOk()]
    assert bench.links[COORDINATOR].role_seen is Role.COORDINATOR
    assert bench.links[MEASURER].role_seen is Role.MEASURER
    assert bench.measuring.capped
    bench.passes(0.9)
    assert len(bench.links[COORDINATOR].sent) == 1
    bench.passes(0.2)
    assert bench.links[COORDINATOR].sent[1:] == [MeasBg(1, 0, 0)]
    assert not bench.measuring.capped


def test_what_was_accepted_is_saved(bench) -> None:
    bench.run()
    assert bench.saved == [({CERTIFICATE: (50.0,)}, Now(50.0, 0.0))]


def test_a_refusal_is_flushed(bench) -> None:
    bench.measuring.post(ParamsReceived(STRANGER, 9, None, None))
    assert bench.saved == []
    assert bench.links[STRANGER].ended == ["flush"]
    assert len(bench.links[STRANGER].sent) == 1


def test_strangers_make_the_background_and_only_they(bench) -> None:
    bench.run()
    for number, count in ((COORDINATOR, 1), (MEASURER, 20), (STRANGER, 300)):
        bench.measuring.was_read(bench.links[number], count, 0.0)
        bench.measuring.was_written(bench.links[number], 2 * count)
    assert bench.measuring.meter.take(1) == MeasBg(1, 600, 300)
    assert bench.measuring.meter.take(2) == MeasBg(2, 0, 0)


def test_what_came_before_the_measurement_is_not_reported(bench) -> None:
    bench.measuring.was_read(bench.links[STRANGER], 300, 0.0)
    bench.run()
    assert bench.measuring.meter.take(1) == MeasBg(1, 0, 0)


def test_echo_traffic_lets_background_pass_while_it_is_measured(bench) -> None:
    assert bench.measuring.may_read(0.0) is None
    assert bench.measuring.may_write() is None
    bench.run()
    began_s = bench.now_s
    bench.measuring.was_read(bench.links[MEASURER], 3_000_000, began_s)
    bench.measuring.was_read(bench.links[STRANGER], 400_000, began_s)
    assert bench.measuring.may_read(began_s)() == 600_000
    assert bench.measuring.may_write()() > 600_000
    bench.measuring.post(LinkLost(COORDINATOR))
    assert bench.measuring.may_read(began_s) is None
    assert bench.links[MEASURER].ended == ["linger"]


def test_a_coordinator_that_does_not_read_loses_its_measurement(bench) -> None:
    bench.run(duration_s=5)
    bench.links[COORDINATOR].full = True
    bench.passes(1.0)
    assert not bench.measuring.capped
    assert bench.dropped == [(COORDINATOR, "it does not read")]
    assert bench.links[MEASURER].ended == ["linger"]


def test_effects_on_links_that_are_gone_are_dropped(bench) -> None:
    bench.run()
    bench.links.clear()
    bench.measuring.post(LinkLost(COORDINATOR))
    assert not bench.measuring.capped
