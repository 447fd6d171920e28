"""The coordinator's side: torclient against the reference relay, and against relays that misbehave."""

from datetime import UTC, datetime

import pytest

from flashflow.keys.certificates import export_certificate, keygen
from flashflow.model.ids import Address, Fingerprint, MeasId
from flashflow.orlink.cells import Cell, Command, encode_cell
from flashflow.orlink.keys import RelayKeys
from flashflow.orlink.meas import (
    MeasBg,
    MeasErr,
    MeasErrCode,
    MeasJoin,
    MeasParams,
    MeasParamsOk,
    MeasurerSpec,
)
from flashflow.testnet.relays import RelayProcess, RelaySpec
from flashflow.torclient.core.messages import (
    BackgroundCounted,
    CircuitEnded,
    OpenCoord,
    ParamsAnswered,
    ParamsWereSent,
)
from flashflow.torctl.commands import CoordStart, MeasrStart, MeasurerToken, Target
from flashflow.torctl.events import BwReport, CircEvent, MeasEnd, ParamsOk
from support.echo_peer import EchoPeer
from support.torclient_process import TorClient
from support.worker_world import WorkerWorld

TOKEN = bytes(range(16))
PARAMS = MeasParams(1, 9, 4, (MeasurerSpec(TOKEN, 4, ("127.0.0.1", 0)),))
NOT_TRUSTED = "REFUSED_NOT_TRUSTED"
KEYS = RelayKeys.generate()
WARMUP_S, DUR_S, CIRCUITS = 1, 3, 4


@pytest.fixture
def key(tmp_path):
    keygen(tmp_path / "coord.pem", "coord", datetime.now(UTC))
    export_certificate(tmp_path / "coord.pem", tmp_path / "coord.cert.pem")
    return tmp_path / "coord.pem"


def coord(fingerprint, target, host="127.0.0.1", dur_s=WARMUP_S + DUR_S):
    measurers = (MeasurerToken(TOKEN, host, CIRCUITS),)
    return CoordStart(MeasId(9), Fingerprint(fingerprint), dur_s, target, measurers)


def is_end(event):
    return isinstance(event, MeasEnd)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_reference_relay_from_params_to_the_last_second(tmp_path, key, host):
    options = ("--rate-mbps", "8", "--coordinator", str(tmp_path / "coord.cert.pem"))
    spec = RelaySpec(tmp_path / "relay", listen=(Address(host, 0),), options=options)
    with RelayProcess(spec) as relay:
        relay.wait_ready()
        target = Target(relay.address, relay.keys.identity.ed25519, relay.keys.ntor_public)
        async with TorClient(tmp_path / "data", "--tls-key", str(key)) as client:
            first = coord(relay.fingerprint, target, host)
            assert (await client.say(first))[0]
            assert (await client.until(lambda event: isinstance(event, ParamsOk))).accepted
            start = MeasrStart(
                MeasId(9), relay.fingerprint, CIRCUITS, DUR_S, 100_000_000, WARMUP_S, "echo", TOKEN, target
            )
            assert (await client.say(start))[0]
            for _ in range(CIRCUITS):
                await client.until(lambda event: isinstance(event, CircEvent) and event.status == "BUILT")
            assert (await client.say(CoordStart(MeasId(9), relay.fingerprint, first.dur_s)))[0]
            assert (await client.say(MeasrStart(MeasId(9), relay.fingerprint, CIRCUITS, DUR_S)))[0]
            ends = [await client.until(is_end), await client.until(is_end)]
    assert ends == [MeasEnd(9, success=True)] * 2
    reports = [event for event in client.events if isinstance(event, BwReport)]
    echoed = [report for report in reports if report.recv_bytes]
    assert [report.second for report in echoed] == [1, 2, 3]
    # A hundred times the relay's rate was asked for: it is settled after the warm-up all the same.
    assert sorted(report.recv_bytes for report in echoed)[1] == pytest.approx(1_000_000, rel=0.1)
    background = [report for report in reports if not report.recv_bytes]
    assert [report.second for report in background] == [1, 2, 3, 4]


async def test_relay_that_does_not_know_the_certificate(tmp_path, key):
    with RelayProcess(RelaySpec(tmp_path / "relay")) as relay:
        relay.wait_ready()
        target = Target(relay.address, relay.keys.identity.ed25519, relay.keys.ntor_public)
        async with TorClient(tmp_path / "data", "--tls-key", str(key)) as client:
            assert (await client.say(coord(relay.fingerprint, target)))[0]
            answer = await client.until(lambda event: isinstance(event, ParamsOk))
            end = await client.until(is_end)
    assert (answer.accepted, answer.reason) == (False, "REFUSED_NOT_TRUSTED")
    assert end.reason == "REFUSED_NOT_TRUSTED"


async def test_a_renewed_key_is_shown_at_the_next_link_and_half_a_file_is_not(tmp_path, key):
    new = tmp_path / "new.pem"
    keygen(new, "coord", datetime.now(UTC))
    export_certificate(new, tmp_path / "new.cert.pem")
    with RelayProcess(
        RelaySpec(tmp_path / "relay", options=("--coordinator", str(tmp_path / "new.cert.pem")))
    ) as relay:
        relay.wait_ready()
        target = Target(relay.address, relay.keys.identity.ed25519, relay.keys.ntor_public)
        async with TorClient(tmp_path / "data", "--tls-key", str(key)) as client:
            for text, trusted in (("", False), (new.read_text()[:100], False), (new.read_text(), True)):
                if text:
                    key.write_text(text)
                assert (await client.say(coord(relay.fingerprint, target)))[0]
                answer = await client.until(lambda event: isinstance(event, ParamsOk))
                assert (answer.accepted, answer.reason) == (trusted, None if trusted else NOT_TRUSTED)
                if not trusted:
                    await client.until(is_end)


def order(peer):
    """What makes a worker open the coordinator's circuit to `peer`."""
    where, target = peer.address, peer.target
    keys = (peer.fingerprint, target.ed25519.hex(), target.ntor.hex())
    return OpenCoord(1, 5, where.host, where.port, *keys, PARAMS.encode().hex())


def sends(*cells):
    """A relay that answers MEAS_PARAMS with these (command, payload)."""

    def send(conn):
        for command, payload in cells:
            conn.tls.sendall(encode_cell(Cell(conn.circ_id, command, payload)))

    return send


def says(*messages):
    return sends(*((Command.MEASUREMENT, message.encode()) for message in messages))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("answer", "heard"),
    [
        (says(MeasErr(MeasErrCode.BUSY)), [ParamsAnswered(1, "REFUSED_BUSY")]),
        (
            says(MeasParamsOk(), MeasBg(1, 7, 2**63)),
            [ParamsAnswered(1, None), BackgroundCounted(1, 1, 7, 2**63)],
        ),
        (sends((Command.DESTROY, b"\x05")), [CircuitEnded(1, 5, "RELAY_CLOSED", "DESTROY 5")]),
        (sends((Command.MEASUREMENT, b"\xee")), "RELAY_PROTOCOL"),
        (says(MeasJoin(9, TOKEN)), "RELAY_PROTOCOL"),
        (lambda conn: conn.tls.close(), "RELAY_CLOSED"),
        (says(*[MeasBg(1, 7, 7)] * 1501), "RELAY_PROTOCOL"),
        (sends(*[(Command.PADDING, b"")] * 1501), "RELAY_PROTOCOL"),
        (sends((99, b"?"), (Command.PADDING, b"")), []),
    ],
)
def test_what_a_relay_answers_is_passed_on(tmp_path, host, answer, heard):
    with (
        EchoPeer(tmp_path / "link.pem", host=host, on_params=answer, keys=KEYS) as peer,
        WorkerWorld() as world,
    ):
        world.tell(order(peer))
        world.until(lambda message: isinstance(message, ParamsWereSent))
        if isinstance(heard, str):
            ended = world.until(lambda message: isinstance(message, CircuitEnded))
            assert ended.reason == heard
        else:
            for message in heard:
                assert world.until(lambda _: True) == message
        world.halt()
