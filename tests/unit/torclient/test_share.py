"""What a relay can do to a worker's share at moments that no socket test hits: nothing that raises."""

import ssl

import pytest

from flashflow.model.circuits import CircuitPlan
from flashflow.model.errors import NetworkError
from flashflow.orlink.cells import Command
from flashflow.torclient.core.messages import Begin, CircuitEnded, OpenCircuits, ShareEnded
from flashflow.torclient.core.passage import Layer
from flashflow.torclient.core.sampling import EchoError, TruncatedError
from flashflow.torclient.workers.circuit import MOST_FILLS, ClosedCircuitError, EchoCircuit
from flashflow.torclient.workers.link import OpenCircuit
from flashflow.torclient.workers.share import Share
from flashflow.torctl.reasons import Reason


class BrokenLink:
    """Its circuit is built just when the connection breaks."""

    def advance(self):
        return OpenCircuit((Layer(bytes(16)),), 0x80000001, 0.01, b"")

    def send_cell(self, command, payload):
        raise NetworkError("send: Connection reset by peer")

    def close(self):
        pass


class CheatedCircuit:
    """Its connection breaks as cells are sent; what came on it was wrong."""

    sent_cells = received_cells = outstanding_cells = 0
    round_trip_s = 0.01
    is_quiet = False
    link = check = None

    def __init__(self):
        self.link = self.check = self.stream = self
        self.blocked = False

    def take_round_trips(self, now_s):
        return None, None

    def send(self, cells, now_s):
        raise ClosedCircuitError(Reason.RELAY_CLOSED, "send: Broken pipe")

    def verify(self):
        pass

    def look_if_quiet(self, now_s):
        pass

    def finish(self):
        raise EchoError(Reason.ECHO_WRONG, "echo cell 3")

    def close(self):
        pass


class TruncatedCircuit(CheatedCircuit):
    """Its relay said TRUNCATED, which a look at the samples shows."""

    def verify(self):
        raise TruncatedError(Reason.DESTROY_CHANNEL_CLOSED, "TRUNCATED 8")

    finish = verify


class HonestCircuit(CheatedCircuit):
    """Nothing happens on it."""

    def finish(self):
        pass


@pytest.fixture
def share():
    said = []
    order = OpenCircuits(1, 7, (), "::1", 9001, "A" * 40, "ab", "cd", "0f" * 16, 125)
    made = Share(order, ssl.create_default_context(), memoryview(bytearray(9)), said.append)
    made.said = said
    return made


def test_connection_that_breaks_when_its_circuit_is_built(share):
    share._opening[1] = BrokenLink()
    share.ready(1, 0.0)
    assert share.said == [CircuitEnded(1, 1, Reason.RELAY_CLOSED, "send: Connection reset by peer")]


def test_connection_that_breaks_and_shows_a_cheat_while_others_wait_to_send(share):
    share._circuits = {number: CheatedCircuit() for number in range(1, 5)}
    share.begin(Begin(1, (1, 2, 3, 4), 0.0, 0.0, 3, None))
    share._traffic.window.plan = lambda now_s, received, circuits: type(
        "Plan", (), {"n_circs": 4, "window_cells": 64}
    )
    share.pump(0.0)
    assert share.said == [ShareEnded(1, Reason.ECHO_WRONG, "echo cell 3")]
    assert share.over


def test_circuit_that_was_truncated_is_lost_and_the_others_go_on(share):
    share._circuits = {1: TruncatedCircuit(), 2: HonestCircuit()}
    share.begin(Begin(1, (1, 2), 0.0, 0.0, 3, None))
    assert share._cut(0.0)
    assert share.said == [CircuitEnded(1, 1, Reason.DESTROY_CHANNEL_CLOSED, "TRUNCATED 8")]
    assert list(share._circuits) == [2]


def test_truncated_at_the_very_end_spoils_nothing(share):
    share._circuits = {1: TruncatedCircuit(), 2: HonestCircuit()}
    share.begin(Begin(1, (1, 2), 0.0, 0.0, 3, None))
    assert not share._cut(3.0)
    assert share.said[-1] == ShareEnded(1, None, "")
    assert share.over


class FullSocket:
    """A stream whose socket always has more; each look at it takes half a second."""

    closed = blocked = False

    def __init__(self, clock):
        self.clock = clock

    def flush(self):
        pass

    def fill(self, scratch):
        self.clock.now_s += 0.5
        return True

    def read_into(self, out):
        return 0


def test_what_comes_after_a_second_has_ended_is_left_to_the_next_one(monkeypatch):
    class Clock:
        now_s = 10.0

    clock = Clock()
    monkeypatch.setattr("flashflow.torclient.workers.circuit.time.monotonic", lambda: clock.now_s)
    link = type("Link", (), {"stream": FullSocket(clock)})
    opened = OpenCircuit((Layer(bytes(16)),), 0x80000001, 0.01, b"")
    circuit = EchoCircuit(link, opened, command=Command.MEAS_ECHO, bucket_cells=125)
    circuit.receive(memoryview(bytearray(9)), until_s=11.0)
    assert clock.now_s == 11.0
    circuit.receive(memoryview(bytearray(9)), until_s=100.0)
    assert clock.now_s == 11.0 + MOST_FILLS * 0.5


class SilentCircuit(HonestCircuit):
    """It was sent cells, and nothing comes back."""

    outstanding_cells = 64
    is_quiet = True


class WillingCircuit(HonestCircuit):
    """Takes what it is given."""

    def __init__(self):
        super().__init__()
        self.given = 0

    def send(self, cells, now_s):
        self.given += cells


def test_a_circuit_that_is_silent_is_passed_over(share):
    willing = WillingCircuit()
    share._circuits = {1: SilentCircuit(), 2: willing, 3: WillingCircuit()}
    share.begin(Begin(1, (1, 2, 3), 0.0, 0.0, 3, None))
    share._traffic.window.plan = lambda now_s, received, circuits: CircuitPlan(1, 64)
    share.pump(0.0)
    assert (willing.given, share._circuits[3].given) == (64, 0)


def test_when_all_are_silent_no_more_is_sent(share):
    share._circuits = {1: SilentCircuit(), 2: SilentCircuit()}
    share.begin(Begin(1, (1, 2), 0.0, 0.0, 3, None))
    share._traffic.window.plan = lambda now_s, received, circuits: CircuitPlan(1, 64)
    share.pump(0.0)
    assert not share.said
