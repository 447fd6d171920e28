import pytest
import stem.response
import stem.response.events

from flashflow.torctl.events import BwReport, CircEvent, EventError, MeasEnd, ParamsOk
from flashflow.torctl.stem_events import FFMeasEvent, from_stem, register


def stem_event(line):
    register()
    message = stem.response.ControlMessage.from_str(f"650 {line}\r\n")
    stem.response.convert("EVENT", message)
    return message


def test_stem_makes_our_class_of_it():
    event = stem_event("FF_MEAS BW_REPORT 7 SECOND=3 SENT=514 RECV=1028")
    assert isinstance(event, FFMeasEvent)
    assert (event.ffmeas_type, event.meas_id, event.second, event.recv) == ("BW_REPORT", "7", "3", "1028")


@pytest.mark.parametrize(
    "event",
    [
        BwReport(7, 1, 2, 3),
        MeasEnd(7, success=False, reason="TIMEOUT"),
        ParamsOk(7, accepted=True),
        CircEvent("1", "BUILT"),
    ],
)
def test_our_events_pass_through_stem(event):
    assert from_stem(stem_event(event.line())) == event


def test_foreign_and_malformed_events_do_not_raise():
    assert from_stem(stem_event("BW 1 2")) is None
    assert isinstance(from_stem(stem_event("FF_MEAS END 7")), EventError)


def test_newconsensus_is_not_parsed_on_stems_thread():
    register()
    assert stem.response.events.PARSE_NEWCONSENSUS_EVENTS is False
