"""The relay's part in a measurement, as plain lists of events and the effects that are expected."""

from dataclasses import replace

import pytest

from flashflow.model.clock import Now, TimerFired
from flashflow.orlink.meas import MeasErr, MeasErrCode, MeasParamsOk
from flashflow.relay.core.admission import AdmissionRules
from flashflow.relay.core.effects import (
    BeginMeasuring,
    Close,
    CloseLink,
    EndMeasuring,
    ReportBackground,
    Role,
    SaveAccepted,
    SendMeasurement,
    SetRole,
)
from flashflow.relay.core.events import (
    CircuitGone,
    EchoBegan,
    ErrReceived,
    JoinReceived,
    LinkLost,
    ParamsReceived,
)
from flashflow.relay.core.state import Phase, State
from support.mini_client import params

COORDINATOR, ALICE, BOB, EVE = 1, 2, 3, 9
CIRC = 0x80000001
CERTIFICATE = b"c" * 32
A, B = b"a" * 16, b"b" * 16
HOST = "192.0.2.7"
RULES = AdmissionRules(frozenset({CERTIFICATE}), setup_s=30.0)
WANTED = params(A, B, meas_id=5, duration_s=3, sockets=2)
PARAMS = ParamsReceived(COORDINATOR, CIRC, CERTIFICATE, WANTED)
LIFTED = SetRole(COORDINATOR, Role.STRANGER)


def join(link: int, token: bytes = A, **changes: object) -> JoinReceived:
    return replace(JoinReceived(link, CIRC, HOST, True, 5, token), **changes)


class Relay:
    """A State with a clock that the test moves."""

    def __init__(self, rules: AdmissionRules = RULES) -> None:
        self.state = State(rules)
        self.now_s = 1000.0

    def gets(self, event: object, after_s: float = 0.0) -> list[object]:
        self.now_s += after_s
        return self.state.handle(event, Now(self.now_s, 0.0))

    def admitted(self) -> "Relay":
        self.gets(PARAMS)
        return self

    def running(self) -> "Relay":
        self.admitted().gets(join(ALICE))
        self.gets(join(BOB, B))
        self.gets(EchoBegan(ALICE))
        return self


def over(link: int) -> CloseLink:
    return CloseLink(link, Close.DROP, "the measurement is over")


def test_a_whole_measurement() -> None:
    relay = Relay()
    assert relay.gets(PARAMS) == [
        SaveAccepted({CERTIFICATE: (1000.0,)}),
        SetRole(COORDINATOR, Role.COORDINATOR),
        SendMeasurement(COORDINATOR, CIRC, MeasParamsOk()),
    ]
    assert relay.gets(join(ALICE), 1.0) == [SetRole(ALICE, Role.MEASURER)]
    assert relay.gets(join(BOB, B), 1.0) == [SetRole(BOB, Role.MEASURER)]
    assert relay.gets(EchoBegan(BOB), 1.0) == [BeginMeasuring()]
    assert relay.gets(EchoBegan(ALICE), 0.1) == []
    assert relay.state.next_timer() == 1004.0
    assert relay.gets(TimerFired(), 0.9) == [ReportBackground(COORDINATOR, CIRC, 1)]
    assert relay.gets(TimerFired(), 1.0) == [ReportBackground(COORDINATOR, CIRC, 2)]
    assert relay.gets(TimerFired(), 1.0) == [
        ReportBackground(COORDINATOR, CIRC, 3),
        EndMeasuring("every second is reported"),
        over(ALICE),
        over(BOB),
        LIFTED,
    ]
    assert relay.state.phase is None
    assert relay.state.next_timer() is None


def test_reports_that_a_stall_held_up_come_together() -> None:
    relay = Relay().running()
    assert relay.gets(TimerFired(), 2.5) == [
        ReportBackground(COORDINATOR, CIRC, 1),
        ReportBackground(COORDINATOR, CIRC, 2),
    ]
    assert relay.state.next_timer() == 1003.0


def test_an_early_timer_does_nothing() -> None:
    assert Relay().admitted().gets(TimerFired(), 29.9) == []
    assert Relay().running().gets(TimerFired(), 0.9) == []


def test_measurers_that_never_come_end_it() -> None:
    relay = Relay().admitted()
    relay.gets(join(ALICE))
    assert relay.state.next_timer() == 1030.0
    assert relay.gets(TimerFired(), 30.0) == [
        EndMeasuring("no echo traffic within 30 s"),
        over(ALICE),
        LIFTED,
    ]


@pytest.mark.parametrize(
    ("event", "reason", "extra"),
    [
        (LinkLost(COORDINATOR), "the coordinator's link is lost", []),
        (CircuitGone(COORDINATOR, CIRC), "the coordinator destroyed its circuit", []),
        (
            ErrReceived(COORDINATOR),
            "the coordinator sent MEAS_ERR",
            [CloseLink(COORDINATOR, Close.DROP, "the other side sent MEAS_ERR")],
        ),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_without_its_coordinator_a_measurement_ends(event, reason, extra, begun) -> None:
    relay = Relay().running() if begun else Relay().admitted()
    closing = [over(ALICE), over(BOB)] if begun else []
    assert relay.gets(event) == [EndMeasuring(reason), *closing, LIFTED, *extra]
    assert relay.state.phase is None


def test_another_circuit_or_link_of_no_interest_changes_nothing() -> None:
    relay = Relay().running()
    for event in (CircuitGone(COORDINATOR, CIRC + 1), CircuitGone(EVE, CIRC), LinkLost(EVE)):
        assert relay.gets(event) == []
    assert relay.state.phase is Phase.RUNNING


def test_an_accepted_measurement_counts_whatever_comes_after() -> None:
    relay = Relay()
    for _ in range(2):
        relay.gets(PARAMS)
        relay.gets(LinkLost(COORDINATOR))
    assert relay.gets(PARAMS) == [
        SendMeasurement(COORDINATOR, CIRC, MeasErr(MeasErrCode.TOO_MANY)),
        CloseLink(COORDINATOR, Close.FLUSH, "measurement refused: TOO_MANY"),
    ]


def test_one_measurement_at_a_time() -> None:
    relay = Relay().running()
    assert relay.gets(replace(PARAMS, link=EVE)) == [
        SendMeasurement(EVE, CIRC, MeasErr(MeasErrCode.BUSY)),
        CloseLink(EVE, Close.FLUSH, "measurement refused: BUSY"),
    ]
    assert relay.state.phase is Phase.RUNNING


def test_a_coordinator_that_asks_twice_on_one_link_loses_its_measurement() -> None:
    relay = Relay().running()
    effects = relay.gets(PARAMS)
    assert effects[0] == SendMeasurement(COORDINATOR, CIRC, MeasErr(MeasErrCode.BUSY))
    assert EndMeasuring("its link is closed") in effects
    assert effects[-1] == CloseLink(COORDINATOR, Close.FLUSH, "measurement refused: BUSY")
    assert relay.state.phase is None


def test_strangers_are_told_that_they_are_not_trusted() -> None:
    assert Relay().gets(ParamsReceived(EVE, CIRC, None, WANTED)) == [
        SendMeasurement(EVE, CIRC, MeasErr(MeasErrCode.NOT_TRUSTED)),
        CloseLink(EVE, Close.FLUSH, "measurement refused: NOT_TRUSTED"),
    ]


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (join(EVE, meas_id=6), "no such measurement"),
        (join(EVE, b"e" * 16), "wrong token"),
        (join(EVE, first=False), "not the first cell of its link's only circuit"),
        (join(ALICE), "not the first cell of its link's only circuit"),
        (join(COORDINATOR), "not the first cell of its link's only circuit"),
    ],
)
def test_a_wrong_join_closes_the_link(event, reason) -> None:
    relay = Relay().running()
    assert relay.gets(event) == [CloseLink(event.link, Close.DROP, f"MEAS_JOIN refused: {reason}")]


def test_nobody_joins_without_a_measurement() -> None:
    assert Relay().gets(join(ALICE)) == [
        CloseLink(ALICE, Close.DROP, "MEAS_JOIN refused: no such measurement")
    ]


def test_sockets_are_counted_per_measurer_and_freed_again() -> None:
    relay = Relay().admitted()
    assert relay.gets(join(20)) == [SetRole(20, Role.MEASURER)]
    assert relay.gets(join(21)) == [SetRole(21, Role.MEASURER)]
    assert relay.gets(join(22)) == [CloseLink(22, Close.DROP, "MEAS_JOIN refused: more than 2 sockets")]
    assert relay.gets(join(23, B)) == [SetRole(23, Role.MEASURER)]
    relay.gets(LinkLost(20))
    assert relay.gets(join(24)) == [SetRole(24, Role.MEASURER)]


@pytest.mark.parametrize(
    ("expected", "found", "taken"),
    [
        (HOST, HOST, True),
        (HOST, "192.0.2.8", False),
        ("0.0.0.0", HOST, True),
        ("::", "2001:db8::1", True),
        ("2001:db8::1", "2001:0db8:0::1", True),
        ("2001:db8::1", HOST, False),
        (HOST, "not an address", False),
    ],
)
def test_a_measurer_comes_from_where_the_parameters_say(expected, found, taken) -> None:
    relay = Relay()
    relay.gets(replace(PARAMS, params=params(A, meas_id=5, host=expected)))
    role = SetRole(ALICE, Role.MEASURER)
    refusal = CloseLink(ALICE, Close.DROP, f"MEAS_JOIN refused: it comes from {found}, {expected} expected")
    assert relay.gets(join(ALICE, host=found)) == [role if taken else refusal]


def test_echo_from_who_has_not_joined_closes_the_link() -> None:
    closed = [CloseLink(EVE, Close.DROP, "MEAS_ECHO outside a measurement")]
    assert Relay().gets(EchoBegan(EVE)) == closed
    relay = Relay().admitted()
    assert relay.gets(EchoBegan(EVE)) == closed
    assert relay.state.phase is Phase.ADMITTED


def test_a_measurers_end_is_its_own() -> None:
    relay = Relay().running()
    assert relay.gets(ErrReceived(ALICE)) == [CloseLink(ALICE, Close.DROP, "the other side sent MEAS_ERR")]
    assert relay.gets(LinkLost(ALICE)) == []
    assert relay.gets(CircuitGone(BOB, CIRC)) == [
        CloseLink(BOB, Close.DROP, "the measurer destroyed its circuit")
    ]
    assert relay.state.phase is Phase.RUNNING
