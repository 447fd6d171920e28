import pytest

from flashflow.torctl.events import (
    BwReport,
    CircEvent,
    EventError,
    MeasEnd,
    ParamsOk,
    ParamsSent,
    parse_event,
)

EVENTS = [
    (CircEvent("5", "LAUNCHED"), "CIRC 5 LAUNCHED"),
    (CircEvent("5", "FAILED", "TIMEOUT"), "CIRC 5 FAILED REASON=TIMEOUT"),
    (ParamsSent(7), "FF_MEAS PARAMS_SENT 7"),
    (ParamsOk(7, accepted=True), "FF_MEAS PARAMS_OK 7 ACCEPTED=1"),
    (
        ParamsOk(7, accepted=False, reason="REFUSED_BUSY"),
        "FF_MEAS PARAMS_OK 7 ACCEPTED=0 REASON=REFUSED_BUSY",
    ),
    (BwReport(7, 3, 514, 1028), "FF_MEAS BW_REPORT 7 SECOND=3 SENT=514 RECV=1028"),
    (MeasEnd(7, success=True), "FF_MEAS END 7 SUCCESS=1"),
    (MeasEnd(7, success=False, reason="STOPPED"), "FF_MEAS END 7 SUCCESS=0 REASON=STOPPED"),
]


@pytest.mark.parametrize(("event", "line"), EVENTS)
def test_line_and_back(event, line):
    assert event.line() == line
    assert parse_event(line) == event


def test_real_tors_circuit_event():
    line = "CIRC 12 CLOSED $AAAA~x,$BBBB~y BUILD_FLAGS=NEED_CAPACITY PURPOSE=GENERAL REASON=FINISHED"
    assert parse_event(line) == CircEvent("12", "CLOSED", "FINISHED")


@pytest.mark.parametrize("line", ["BW 1 2", "", "FF_MEAS NEW_KIND 7"])
def test_other_events_are_none_of_ours(line):
    assert parse_event(line) is None


@pytest.mark.parametrize(
    "line",
    [
        "CIRC 5",
        "FF_MEAS",
        "FF_MEAS END x SUCCESS=1",
        "FF_MEAS END 7",
        "FF_MEAS END 7 SUCCESS=2",
        "FF_MEAS PARAMS_OK 7 ACCEPTED=yes",
        "FF_MEAS BW_REPORT 7 SECOND=1 SENT=2",
        "FF_MEAS BW_REPORT 7 SECOND=1 SENT=2 RECV=-3",
        "FF_MEAS BW_REPORT 7 SECOND=1 SENT=2 RECV=" + "9" * 30,
    ],
)
def test_malformed_events_say_so(line):
    with pytest.raises(EventError, match="expected"):
        parse_event(line)


def test_a_reason_is_one_token():
    with pytest.raises(ValueError, match="single token"):
        MeasEnd(7, success=False, reason="two words").line()
