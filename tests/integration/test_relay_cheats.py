"""The cheating relay cheats in the way each cheat's name says, so that tests of whole measurements mean something."""

import os
import time
from collections.abc import Iterator
from hashlib import sha256

import pytest

from flashflow.model.errors import PeerError
from flashflow.orlink.cells import Command
from flashflow.orlink.keys import LinkCertificate, make_link_certificate
from flashflow.orlink.meas import MeasErr, MeasErrCode, MeasParamsOk
from flashflow.orlink.relaycell import RelayCell, RelayCommand, parse_relay_cell
from flashflow.testnet.counts import read_counts
from flashflow.testnet.relays import RelayProcess, RelaySpec
from support.cheating_relay import CACHED_CELLS, FIRST_LINKS, INVENTED_CELLS, choose, command
from support.mini_client import MiniClient, params
from support.relay_thread import RelayThread

CIRC = 0x80000001
TOKEN = b"t" * 16


@pytest.fixture(scope="module")
def certificate() -> LinkCertificate:
    now = time.time()
    return make_link_certificate(now - 86_400, now + 86_400)


@pytest.fixture
def relay(request, tmp_path, certificate) -> Iterator[RelayThread]:
    digest = sha256(certificate.certificate_der).digest()
    with RelayThread(choose(request.param), tmp_path, digest) as thread:
        yield thread


def cheats(name: str):
    return pytest.mark.parametrize("relay", [name], indirect=True)


def client(relay: RelayThread, certificate: LinkCertificate | None = None) -> MiniClient:
    keys = relay.keys
    made = MiniClient(relay.address, relay.fingerprint, keys.identity.ed25519, keys.ntor_public, certificate)
    made.create()
    return made


def begin(relay: RelayThread, certificate: LinkCertificate) -> tuple[MiniClient, MiniClient]:
    """A coordinator whose measurement is admitted, and a measurer that has joined."""
    coordinator = client(relay, certificate)
    assert coordinator.start(params(TOKEN)) == MeasParamsOk()
    made = client(relay)
    made.join(7, TOKEN)
    return coordinator, made


def decrypted(made: MiniClient, payload: bytes) -> bytes:
    return made.hops[CIRC].forward.cipher.crypt(payload)


@cheats("skip-decrypt")
def test_skip_decrypt(relay, certificate) -> None:
    _coordinator, made = begin(relay, certificate)
    payload = os.urandom(509 * 10)
    made.send_run(payload)
    assert made.receive_run(10) == payload


@cheats("replay")
def test_replay(relay, certificate) -> None:
    _coordinator, made = begin(relay, certificate)
    payload = os.urandom(509 * 3 * CACHED_CELLS)
    made.send_run(payload)
    back = made.receive_run(3 * CACHED_CELLS)
    honest = decrypted(made, payload)[: 509 * CACHED_CELLS]
    assert back[: 509 * CACHED_CELLS] == honest
    assert set(cut(back)) == set(cut(honest))


def cut(payload: bytes) -> list[bytes]:
    return [payload[at : at + 509] for at in range(0, len(payload), 509)]


@cheats("echo-early")
def test_echo_early(relay, certificate) -> None:
    _coordinator, made = begin(relay, certificate)
    early = [made.receive() for _ in range(INVENTED_CELLS)]
    assert {cell.command for cell in early} == {Command.MEAS_ECHO}


@cheats("invent")
def test_invent(relay, certificate) -> None:
    coordinator = client(relay, certificate)
    coordinator.start(params(TOKEN, duration_s=2))
    made = client(relay)
    made.join(7, TOKEN)
    for invented in (0, INVENTED_CELLS):  # nothing in the first second, but in the last
        payload = os.urandom(509 * 5)
        made.send_run(payload)
        back = made.receive_run(5 + invented)
        assert back[: 509 * 5] == decrypted(made, payload)
        assert coordinator.receive_measurement().second == (2 if invented else 1)
    assert len(received_until_end(made)) == INVENTED_CELLS


@cheats("drop")
def test_drop(relay, certificate) -> None:
    _coordinator, made = begin(relay, certificate)
    payload = os.urandom(509)
    made.send_run(payload)
    assert made.receive_run(1) == decrypted(made, payload)
    made.send_run(os.urandom(509 * 40))
    assert 20 <= len(received_until_end(made)) < 40


@cheats("recognised")
def test_recognised(relay, certificate) -> None:
    _coordinator, made = begin(relay, certificate)
    hop = made.hops[CIRC]
    made.send_run(os.urandom(509 * 40))
    hop.forward.cipher.offset_bytes += 509 * 40
    own = RelayCell(RelayCommand.DATA, 1, b"for the relay itself")
    made.send_run(hop.send(own))
    (back,) = received_until_end(made)
    assert parse_relay_cell(back) == own


def received_until_end(made: MiniClient) -> list[bytes]:
    cells = []
    try:
        while True:
            cells.append(made.receive().payload)
    except ConnectionError:
        return cells


@cheats("miscount=1.5")
def test_miscount(relay, certificate) -> None:
    _coordinator, made = begin(relay, certificate)
    made.send_run(os.urandom(509 * 2000))
    made.receive_run(2000)
    now = time.time()
    while (counts := read_counts(relay.counts))[-1].utc_s < now:
        time.sleep(0.02)
    assert counts[-1].read_bytes == pytest.approx(1.5 * 2000 * 514, rel=0.02)


@cheats("background=10")
def test_background(relay, certificate) -> None:
    coordinator, made = begin(relay, certificate)
    made.send_run(os.urandom(509))
    report = coordinator.receive_measurement()
    assert (report.sent_bytes, report.recv_bytes) == (1_000_000, 1_000_000)


@cheats("bad-certs")
def test_bad_certs(relay) -> None:
    with pytest.raises(PeerError, match=r"the peer owns RSA identity [0-9A-F]{40}, [0-9A-F]{40} expected"):
        client(relay)


@cheats("expired")
def test_expired(relay) -> None:
    with pytest.raises(PeerError, match="expired"):
        client(relay)


@cheats("changing")
def test_changing(relay) -> None:
    for _ in range(FIRST_LINKS):
        client(relay)
    with pytest.raises(PeerError, match="the peer owns RSA identity"):
        client(relay)


@cheats("oversize")
def test_oversize(relay, certificate) -> None:
    _coordinator, made = begin(relay, certificate)
    huge = made.receive()
    assert (huge.command, len(huge.payload)) == (Command.VPADDING, 0xFFFF)


@cheats("malformed")
def test_malformed(relay, certificate) -> None:
    coordinator, _made = begin(relay, certificate)
    with pytest.raises(PeerError, match="MEASUREMENT"):
        coordinator.receive_measurement()


@cheats("refuse")
def test_refuse(relay, certificate) -> None:
    coordinator = client(relay, certificate)
    assert coordinator.start(params(TOKEN)) == MeasErr(MeasErrCode.TOO_MANY)


@cheats("silent")
def test_silent(relay, certificate) -> None:
    coordinator = client(relay, certificate)
    coordinator.send_measurement(params(TOKEN))
    coordinator.send(Command.CREATE_FAST, b"", CIRC + 1)
    assert coordinator.receive().command == Command.DESTROY


def test_as_a_command_it_takes_the_relays_options(tmp_path) -> None:
    spec = RelaySpec(tmp_path, command=tuple(command("silent")), options=("--rate-mbps", "10"))
    with RelayProcess(spec) as process:
        assert process.wait_ready().address.port > 0
        assert process.stop() == 143
