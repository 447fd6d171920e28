import pytest

from flashflow.model.ids import Address, Fingerprint, MeasId
from flashflow.model.network import NetworkLimits
from flashflow.torctl.arguments import CommandError
from flashflow.torctl.commands import (
    CoordStart,
    FarEnd,
    MeasrStart,
    MeasurerToken,
    Stop,
    Target,
    parse_command,
)
from flashflow.torctl.lines import MAX_LINE_BYTES

FP = Fingerprint("A" * 40)
KEYS = "ED25519=" + "A" * 43 + " NTOR=" + "B" * 42 + "A"
TOKEN = "0f" * 16
FAR_KEYS = "A" * 43 + "/" + "B" * 42 + "A"
FAR = f"1.2.3.4:5/{FP}/{FAR_KEYS}"
LOOP = f"MEASR_START_MEAS 1 {FP} 4 30 MODE=loop FAREND={FAR} ADDR=1.2.3.4:5 {KEYS}"


def target(host="127.0.0.1"):
    return Target(Address(host, 9001), bytes(range(32)), bytes(range(32, 64)))


def loop(host, far_ends=1, limits=None):
    slashes = bytes.fromhex("ff" * 32)  # base64 of it is full of them
    ends = tuple(
        FarEnd(Address(host, 9100 + number), FP, slashes, bytes(range(32))) for number in range(far_ends)
    )
    return MeasrStart(
        *(MeasId(7), FP, 20, 30, 112_500_000, 2, "loop"),
        target=target(host),
        bucket_cells=50,
        far_ends=ends,
        limits=limits,
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "2001:db8::7"])
@pytest.mark.parametrize(
    "command",
    [
        lambda host: CoordStart(MeasId(7), FP, 32, target(host), (MeasurerToken(bytes(16), host, 80),)),
        lambda host: MeasrStart(
            MeasId(2**32 - 1), FP, 160, 30, 112_500_000, 2, "echo", b"\xff" * 16, target(host), 50
        ),
        lambda host: MeasrStart(MeasId(1), FP, 1, 1, token=bytes(16), target=target(host)),
        loop,
        lambda host: loop(host, far_ends=16),
        lambda host: loop(host, limits=NetworkLimits(7, 1, 0.125, 30, 1.5, 8)),
        lambda host: loop(host, far_ends=16, limits=NetworkLimits()),
    ],
)
def test_command_with_a_target_survives_its_line(host, command):
    assert parse_command(command(host).line()) == command(host)


@pytest.mark.parametrize(
    "command", [CoordStart(MeasId(7), FP, 32), MeasrStart(MeasId(7), FP, 4, 30), Stop(MeasId(9))]
)
def test_second_calls_survive_their_line(command):
    assert parse_command(command.line()) == command


def test_second_call_has_no_extras():
    assert MeasrStart(MeasId(7), FP, 4, 30).line() == f"MEASR_START_MEAS 7 {FP} 4 30"


def test_ten_measurers_fit_into_a_line():
    measurers = tuple(
        MeasurerToken(bytes(16), "2001:db8:1111:2222:3333:4444:5555:6666", 160) for _ in range(10)
    )
    assert len(CoordStart(MeasId(2**32 - 1), FP, 600, target(), measurers).line()) < MAX_LINE_BYTES


def test_sixteen_far_ends_fit_into_a_line():
    assert len(loop("2001:db8:1111:2222:3333:4444:5555:6666", far_ends=16).line()) < MAX_LINE_BYTES


def test_names_are_case_insensitive_and_dollar_is_allowed():
    assert parse_command("ff_stop 3") == Stop(MeasId(3))
    assert parse_command(f"COORD_START_MEAS 1 ${FP.lower()} 30") == CoordStart(MeasId(1), FP, 30)


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("", 510, "Unrecognized command"),
        ("EXTENDCIRCUIT 0", 510, "EXTENDCIRCUIT"),
        ("FF_STOP", 512, "one measurement id"),
        ("FF_STOP 0", 512, "1 to 4294967295"),
        ("FF_STOP 4294967296", 512, "meas_id"),
        ("FF_STOP \u0661", 512, "meas_id"),
        (f"COORD_START_MEAS 1 {FP}", 512, "dur"),
        (f"COORD_START_MEAS 1 {FP} 601", 512, "1 to 600"),
        ("COORD_START_MEAS 1 ABC 30", 512, "40 hex digits"),
        (f"COORD_START_MEAS 1 {FP} 30 SPEED=1", 513, "SPEED"),
        (f"COORD_START_MEAS 1 {FP} 30 extra", 513, "extra"),
        (f"COORD_START_MEAS 1 {FP} 30 ADDR=1.2.3.4:5 {KEYS}", 512, "0 given, 1 to 10"),
        (f"COORD_START_MEAS 1 {FP} 30 MEASURER={TOKEN}@1.2.3.4/4", 512, "ADDR= is missing"),
        (f"COORD_START_MEAS 1 {FP} 30 ADDR=1.2.3.4:5 {KEYS} MEASURER={TOKEN}@host/4", 513, "no IP address"),
        (f"COORD_START_MEAS 1 {FP} 30 ADDR=1.2.3.4:5 {KEYS} MEASURER=aa@1.2.3.4/4", 513, "32 hex digits"),
        (f"COORD_START_MEAS 1 {FP} 30 ADDR=1.2.3.4:5 {KEYS} MEASURER={TOKEN}", 513, "<token>@<ip>/<sockets>"),
        (f"COORD_START_MEAS 1 {FP} 30 ADDR=1.2.3.4:5 {KEYS} MEASURER={TOKEN}@1.2.3.4/0", 512, "sockets"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 RATE=5", 512, "TOKEN= is missing"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 RATE=-5 TOKEN={TOKEN} ADDR=1.2.3.4:5 {KEYS}", 512, "RATE"),
        (f"MEASR_START_MEAS 1 {FP} 161 30", 512, "n_circs"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 MODE=ECHO", 513, "echo or loop expected"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 MODE=loop", 512, "FAREND: 0 given"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 MODE=loop{f' FAREND={FAR}' * 17}", 512, "FAREND: 17 given"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 TOKEN={TOKEN} FAREND={FAR}", 512, "0 to 0 expected in echo mode"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 FAREND={FAR}", 512, "FAREND"),
        (f"MEASR_START_MEAS 1 {FP} 41 30 MODE=loop FAREND={FAR}", 512, "1 to 40"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 MODE=loop TOKEN={TOKEN} FAREND={FAR}", 513, "not in loop mode"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 MODE=loop FAREND={FAR}", 512, "ADDR= is missing"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 MODE=loop FAREND=1.2.3.4:5/{FP}", 513, "<ip:port>/<fingerprint>"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 MODE=loop FAREND=1.2.3.4:0/{FP}/{FAR_KEYS}", 513, "port"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 MODE=loop FAREND=a.b:5/{FP}/{FAR_KEYS}", 513, "no IP address"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 MODE=loop FAREND=1.2.3.4:5/AB/{FAR_KEYS}", 512, "40 hex"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 MODE=loop FAREND={FAR[:-1]}!", 513, "32 bytes in base64"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 TOKEN={TOKEN} ADDR=relay.example:5 {KEYS}", 513, "no IP address"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 TOKEN={TOKEN} ADDR=1.2.3.4:0 {KEYS}", 513, "port"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 TOKEN={TOKEN} ADDR=1.2.3.4 {KEYS}", 513, "host:port"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 TOKEN={TOKEN} ADDR=1.2.3.4:5 ED25519=AA NTOR=AA", 513, "32 bytes"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 TOKEN={TOKEN} TOKEN={TOKEN}", 512, "twice"),
        (f"MEASR_START_MEAS 1 {FP} 4 30 TOKEN={TOKEN} CONNS=4", 513, "CONNS: in loop mode only"),
        (f"{LOOP} CONNS=41", 512, "CONNS: '41', a number from 1 to 40 expected"),
        (f"{LOOP} CONN_BURST=0", 512, "from 1 to 20"),
        (f"{LOOP} CONN_RATE=10.5", 512, "CONN_RATE: '10.5', a number above 0, at most 10, expected"),
        (f"{LOOP} CIRC_RATE=0.0", 512, "above 0, at most 2"),
        (f"{LOOP} CIRC_RATE=nan", 512, "above 0, at most 2"),
        (f"{LOOP} CIRC_RATE=1e0", 512, "above 0, at most 2"),
        (f"{LOOP} CIRC_BURST=31", 512, "from 1 to 30"),
        (f"{LOOP} CIRC_CELLS=7", 512, "from 8 to 800"),
    ],
)
def test_bad_lines_get_a_code_and_say_why(line, code, says):
    with pytest.raises(CommandError, match=says) as caught:
        parse_command(line)
    assert caught.value.code == code


def test_limits_that_are_not_given_are_the_live_networks():
    assert parse_command(LOOP).limits is None
    assert parse_command(f"{LOOP} CIRC_RATE=0.5").limits == NetworkLimits(circuits_per_s=0.5)


def test_secrets_are_not_shown():
    shown = repr(MeasrStart(MeasId(1), FP, 1, 1, token=b"0123456789abcdef", target=target()))
    assert "0123456789abcdef" not in shown
