"""The Tor control port's FlashFlow commands and events: what one side writes, the other reads, and stem too."""

import time

import pytest
import stem.response
import stem.socket

from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Address, Fingerprint, MeasId
from flashflow.torctl.commands import (
    Command,
    CommandError,
    CoordStart,
    MeasrStart,
    MeasurerToken,
    Stop,
    Target,
    parse_command,
)
from flashflow.torctl.events import BwReport, CircEvent, Event, MeasEnd, ParamsOk, ParamsSent
from flashflow.torctl.reasons import Reason, describe
from flashflow.torctl.stem_events import from_stem, register

FP = Fingerprint("AB" * 20)
TOKEN = bytes(range(16))
V4 = Target(Address("192.0.2.7", 9001), bytes(32), b"\xff" * 32)
V6 = Target(Address("2001:db8::7", 9001), bytes(32), b"\xff" * 32)


@pytest.mark.parametrize(
    ("command", "start"),
    [
        (CoordStart(MeasId(7), FP, 32), f"COORD_START_MEAS 7 {FP} 32"),
        (
            CoordStart(MeasId(7), FP, 32, V4, (MeasurerToken(TOKEN, "192.0.2.1", 80),)),
            f"COORD_START_MEAS 7 {FP} 32 ADDR=192.0.2.7:9001 ",
        ),
        (
            CoordStart(MeasId(7), FP, 32, V6, (MeasurerToken(TOKEN, "2001:db8::1", 1),) * 10),
            f"COORD_START_MEAS 7 {FP} 32 ADDR=[2001:db8::7]:9001 ",
        ),
        (MeasrStart(MeasId(2**32 - 1), FP, 3, 30), f"MEASR_START_MEAS {2**32 - 1} {FP} 3 30"),
        (
            MeasrStart(MeasId(7), FP, 160, 600, 10**6, 2, "echo", TOKEN, V4, 125),
            f"MEASR_START_MEAS 7 {FP} 160 600 RATE=1000000 WARMUP=2 MODE=echo TOKEN={TOKEN.hex()} BUCKET=125 ADDR=",
        ),
        (Stop(MeasId(1)), "FF_STOP 1"),
    ],
)
def test_a_command_is_read_as_it_was_meant(command: Command, start: str) -> None:
    assert command.line().startswith(start)
    assert parse_command(command.line()) == command


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("COORD_START_MEAS", 512),
        (f"COORD_START_MEAS 0 {FP} 30", 512),
        (f"COORD_START_MEAS 1 {FP} 601", 512),
        (f"MEASR_START_MEAS 1 {FP} 161 30", 512),
        (f"MEASR_START_MEAS 1 {FP} 1 30 MODE=loop", 513),
        (f"COORD_START_MEAS 1 {FP} 30 COLOUR=red", 513),
        ("FF_STOP", 512),
        ("FF_STOP -1", 512),
        ("FLY", 510),
    ],
)
def test_a_wrong_command_has_its_status_code(line: str, code: int) -> None:
    with pytest.raises(CommandError) as caught:
        parse_command(line)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (CircEvent("7", "BUILT"), "CIRC 7 BUILT"),
        (CircEvent("7", "FAILED", "LINK_FAILED"), "CIRC 7 FAILED REASON=LINK_FAILED"),
        (ParamsSent(7), "FF_MEAS PARAMS_SENT 7"),
        (ParamsOk(7, True), "FF_MEAS PARAMS_OK 7 ACCEPTED=1"),
        (ParamsOk(7, False, "REFUSED_TOO_MANY"), "FF_MEAS PARAMS_OK 7 ACCEPTED=0 REASON=REFUSED_TOO_MANY"),
        (BwReport(7, 3, 514, 2**63), f"FF_MEAS BW_REPORT 7 SECOND=3 SENT=514 RECV={2**63}"),
        (MeasEnd(7, True), "FF_MEAS END 7 SUCCESS=1"),
        (MeasEnd(7, False, "ECHO_WRONG"), "FF_MEAS END 7 SUCCESS=0 REASON=ECHO_WRONG"),
    ],
)
def test_an_event_comes_through_stem_as_it_was_sent(event: Event, line: str) -> None:
    register()
    assert event.line() == line
    message = stem.response.ControlMessage.from_str(f"650 {line}\r\n", "EVENT", normalize=False, arrived_at=time.time())
    assert from_stem(message) == event


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_kind_and_words(reason: Reason) -> None:
    kind, text = describe(reason)
    assert kind in ErrorKind
    assert " " in text
    assert describe("OF_ANOTHER_TOR") == (ErrorKind.PEER, "reason OF_ANOTHER_TOR")
