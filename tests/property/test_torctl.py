"""Whatever arrives on a control connection, or as an event, raises nothing but our own errors."""

import base64
import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from flashflow.model.ids import Address, Fingerprint, MeasId
from flashflow.torctl.arguments import CommandError
from flashflow.torctl.commands import (
    CoordStart,
    MeasrStart,
    MeasurerToken,
    Target,
    parse_command,
)
from flashflow.torctl.events import EventError, parse_event
from flashflow.torctl.session import Action, Close, ControlSession, Facts

COOKIE = bytes(32)
WORDS = st.sampled_from(
    [
        "AUTHENTICATE",
        COOKIE.hex(),
        "GETINFO",
        "version",
        "GETCONF",
        "SETEVENTS",
        "FF_MEAS",
        "CIRC",
        "SIGNAL",
        "TERM",
        "QUIT",
        "FF_STOP",
        "COORD_START_MEAS",
        "MEASR_START_MEAS",
        "A" * 40,
        "1",
        "30",
        "ADDR=127.0.0.1:1",
        "ADDR=[::1]:9",
        "MEASURER=" + "0" * 32 + "@::1/4",
        "TOKEN=" + "0" * 32,
        "ED25519=" + base64.b64encode(bytes(32)).decode(),
        "NTOR=" + base64.b64encode(bytes(32)).decode(),
        "RATE=9",
        "=",
        "END",
        "SUCCESS=1",
        "BW_REPORT",
    ]
)
LINES = st.one_of(st.lists(WORDS, max_size=12).map(" ".join), st.text(max_size=80))


@given(
    st.lists(st.one_of(st.binary(max_size=200), LINES.map(lambda line: line.encode() + b"\n")), max_size=12)
)
@settings(max_examples=200, deadline=None)
def test_session_takes_any_bytes(pieces):
    session = ControlSession(Facts(COOKIE, "/c", {"version": "1"}, {}))
    session.receive(b"AUTHENTICATE " + COOKIE.hex().encode() + b"\n")
    closed = False
    for piece in pieces:
        actions = session.receive(piece)
        assert all(isinstance(action, Action) for action in actions)
        assert not (closed and actions)
        closed = closed or Close() in actions


@given(LINES)
@settings(max_examples=300, deadline=None)
def test_parsers_raise_only_our_errors(line):
    refusal = None
    try:
        assert parse_command(line).line()
    except CommandError as error:
        refusal = error
    assert refusal is None or refusal.code in (510, 512, 513)
    with contextlib.suppress(EventError):
        parse_event(line)


HOSTS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
TARGETS = st.builds(
    Target,
    st.builds(Address, HOSTS, st.integers(1, 65535)),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)
TOKENS = st.binary(min_size=16, max_size=16)
MEAS_IDS = st.integers(1, 2**32 - 1).map(MeasId)
FINGERPRINTS = st.binary(min_size=20, max_size=20).map(lambda raw: Fingerprint(raw.hex().upper()))
MEASURERS = st.lists(
    st.builds(MeasurerToken, TOKENS, HOSTS, st.integers(1, 160)), min_size=1, max_size=10
).map(tuple)


@given(st.builds(CoordStart, MEAS_IDS, FINGERPRINTS, st.integers(1, 600), TARGETS, MEASURERS))
@settings(max_examples=100, deadline=None)
def test_coord_start_survives_its_line(command):
    assert parse_command(command.line()) == command


@given(
    st.builds(
        MeasrStart,
        MEAS_IDS,
        FINGERPRINTS,
        st.integers(1, 160),
        st.integers(1, 600),
        rate_bytes=st.none() | st.integers(1, 2**48),
        warmup_s=st.integers(0, 600),
        token=TOKENS,
        target=TARGETS,
        bucket_cells=st.none() | st.integers(1, 100_000),
    )
)
@settings(max_examples=100, deadline=None)
def test_measr_start_survives_its_line(command):
    assert parse_command(command.line()) == command
