import pytest

from flashflow.model.ids import MeasId
from flashflow.torctl.commands import Stop
from flashflow.torctl.events import CircEvent, MeasEnd
from flashflow.torctl.session import Close, ControlSession, EndProcess, Facts, Run, SendBytes

COOKIE = bytes(range(32))
FACTS = Facts(
    COOKIE,
    '/tmp/a "b"/cookie',
    {"version": "0.4.8.1-flashflow", "process/pid": "7"},
    {"__OwningControllerProcess": ""},
)
LOGIN = b"AUTHENTICATE " + COOKIE.hex().encode() + b"\r\n"


def said(actions):
    return b"".join(action.data for action in actions if isinstance(action, SendBytes)).decode()


@pytest.fixture
def session():
    session = ControlSession(FACTS)
    assert said(session.receive(LOGIN)) == "250 OK\r\n"
    return session


def test_protocolinfo_names_the_cookie():
    assert said(ControlSession(FACTS).receive(b"PROTOCOLINFO 1\r\n")).splitlines() == [
        "250-PROTOCOLINFO 1",
        '250-AUTH METHODS=COOKIE COOKIEFILE="/tmp/a \\"b\\"/cookie"',
        '250-VERSION Tor="0.4.8.1-flashflow"',
        "250 OK",
    ]


@pytest.mark.parametrize(
    "line",
    [b"AUTHENTICATE\r\n", b"AUTHENTICATE 00\r\n", b'AUTHENTICATE "password"\r\n', b"AUTHENTICATE a b\r\n"],
)
def test_wrong_cookie_ends_the_connection(line):
    session = ControlSession(FACTS)
    actions = session.receive(line + LOGIN)
    assert said(actions).startswith("515 ")
    assert actions[-1] == Close()
    assert session.receive(LOGIN) == []


@pytest.mark.parametrize("line", [b"GETINFO version\r\n", b"FF_STOP 1\r\n", b"\r\n", b"SIGNAL TERM\r\n"])
def test_nothing_works_before_authentication(line):
    actions = ControlSession(FACTS).receive(line)
    assert said(actions) == "514 Authentication required.\r\n"
    assert actions[-1] == Close()


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x00\xa5\x01\n", b"x" * 5000])
def test_garbage_is_denied_with_one_line(data):
    actions = ControlSession(FACTS).receive(data)
    assert said(actions).startswith("500 Syntax error")
    assert actions[-1] == Close()


def test_pipelined_lines_are_answered_in_order(session):
    actions = session.receive(b"GETINFO version process/pid\r\nFF_STOP 3\r\nNOPE x\r\n")
    assert actions == [
        SendBytes(b"250-version=0.4.8.1-flashflow\r\n250-process/pid=7\r\n250 OK\r\n"),
        Run(Stop(MeasId(3))),
        SendBytes(b'510 Unrecognized command "NOPE"\r\n'),
    ]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"GETINFO nothing", '552 Unrecognized key "nothing"'),
        (b"GETCONF __owningcontrollerprocess", "250 __OwningControllerProcess"),
        (b"GETCONF SocksPort", '552 Unrecognized configuration key "SocksPort"'),
        (b"GETCONF", "250 OK"),
        (b"RESETCONF __OwningControllerProcess", "250 OK"),
        (b"RESETCONF ORPort", '552 Unrecognized option "ORPort"'),
        (b"SETEVENTS CIRC FF_MEAS", "250 OK"),
        (b"SETEVENTS CIRC GUARD", '552 Unrecognized event "GUARD"'),
        (b"SIGNAL NEWNYM", "250 OK"),
        (b"SIGNAL JUMP", '552 Unrecognized signal code "JUMP"'),
        (b"FF_STOP x", "512 meas_id: 'x', a number from 1 to 4294967295 expected"),
        (b"COORD_START_MEAS 1 " + b"A" * 40 + b" 30 SPEED=1", "513 Unrecognized argument 'SPEED'"),
    ],
)
def test_answers(session, line, answer):
    assert said(session.receive(line + b"\r\n")) == answer + "\r\n"


def test_events_go_only_to_who_asked(session):
    assert session.event(MeasEnd(7, success=True)) == b""
    session.receive(b"SETEVENTS FF_MEAS\r\n")
    assert session.event(MeasEnd(7, success=True)) == b"650 FF_MEAS END 7 SUCCESS=1\r\n"
    assert session.event(CircEvent("1", "BUILT")) == b""


def test_refused_setevents_leaves_the_events_as_they_were(session):
    session.receive(b"SETEVENTS FF_MEAS\r\nSETEVENTS NOPE\r\n")
    assert session.event(MeasEnd(7, success=True)) != b""


def test_ownership_and_quit(session):
    assert not session.owns_process
    session.receive(b"TAKEOWNERSHIP\r\n")
    assert session.owns_process
    assert session.receive(b"QUIT\r\n")[-1] == Close()
    assert session.event(MeasEnd(7, success=True)) == b""


@pytest.mark.parametrize("name", [b"TERM", b"SHUTDOWN", b"HALT", b"INT", b"term"])
def test_signals_that_end_the_process(session, name):
    assert session.receive(b"SIGNAL " + name + b"\r\n") == [SendBytes(b"250 OK\r\n"), EndProcess()]
