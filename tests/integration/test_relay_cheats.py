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
from flashflow.testnet.counts import read_counts
from flashflow.testnet.relays import RelayProcess, RelaySpec, start_all
from support.cheating_relay import CACHED_CELLS, INVENTED_CELLS, command
from support.mini_client import MiniClient, params

CIRC = 0x80000001
TOKEN = b"t" * 16
CHEATS = (
    "skip-decrypt",
    "replay",
    "echo-early",
    "invent",
    "drop",
    "miscount=1.5",
    "background=10",
    "bad-certs",
    "refuse",
    "silent",
)


@pytest.fixture(scope="module")
def certificate() -> LinkCertificate:
    now = time.time()
    return make_link_certificate(now - 86_400, now + 86_400)


@pytest.fixture(scope="module")
def relays(tmp_path_factory, certificate) -> Iterator[dict[str, RelayProcess]]:
    trusted = ("--coordinator", sha256(certificate.certificate_der).hexdigest(), "--max-per-period", "100")
    folder = tmp_path_factory.mktemp("cheats")
    specs = [RelaySpec(folder / cheat, options=trusted, command=tuple(command(cheat))) for cheat in CHEATS]
    processes = start_all(specs)
    yield {cheat.partition("=")[0]: process for cheat, process in zip(CHEATS, processes, strict=True)}
    for process in processes:
        process.stop()


def client(relay: RelayProcess, certificate: LinkCertificate | None = None) -> MiniClient:
    keys = relay.keys
    made = MiniClient(relay.address, relay.fingerprint, keys.identity.ed25519, keys.ntor_public, certificate)
    made.create()
    return made


def begin(relay: RelayProcess, certificate: LinkCertificate) -> tuple[MiniClient, MiniClient]:
    """A coordinator whose measurement is admitted, and a measurer that has joined."""
    coordinator = client(relay, certificate)
    assert coordinator.start(params(TOKEN)) == MeasParamsOk()
    made = client(relay)
    made.join(7, TOKEN)
    return coordinator, made


def decrypted(made: MiniClient, payload: bytes) -> bytes:
    return made.hops[CIRC].forward.cipher.crypt(payload)


def test_skip_decrypt(relays, certificate) -> None:
    _coordinator, made = begin(relays["skip-decrypt"], certificate)
    payload = os.urandom(509 * 10)
    made.send_run(payload)
    assert made.receive_run(10) == payload


def test_replay(relays, certificate) -> None:
    _coordinator, made = begin(relays["replay"], certificate)
    payload = os.urandom(509 * 3 * CACHED_CELLS)
    made.send_run(payload)
    back = made.receive_run(3 * CACHED_CELLS)
    honest = decrypted(made, payload)[: 509 * CACHED_CELLS]
    assert back[: 509 * CACHED_CELLS] == honest
    assert set(cut(back)) == set(cut(honest))


def cut(payload: bytes) -> list[bytes]:
    return [payload[at : at + 509] for at in range(0, len(payload), 509)]


def test_echo_early(relays, certificate) -> None:
    _coordinator, made = begin(relays["echo-early"], certificate)
    early = [made.receive() for _ in range(INVENTED_CELLS)]
    assert {cell.command for cell in early} == {Command.MEAS_ECHO}


def test_invent(relays, certificate) -> None:
    coordinator = client(relays["invent"], certificate)
    coordinator.start(params(TOKEN, duration_s=2))
    made = client(relays["invent"])
    made.join(7, TOKEN)
    for invented in (0, INVENTED_CELLS):  # nothing in the first second, but in the last
        payload = os.urandom(509 * 5)
        made.send_run(payload)
        back = made.receive_run(5 + invented)
        assert back[: 509 * 5] == decrypted(made, payload)
        assert coordinator.receive_measurement().second == (2 if invented else 1)
    assert len(received_until_end(made)) == INVENTED_CELLS


def test_drop(relays, certificate) -> None:
    _coordinator, made = begin(relays["drop"], certificate)
    payload = os.urandom(509)
    made.send_run(payload)
    assert made.receive_run(1) == decrypted(made, payload)
    made.send_run(os.urandom(509 * 40))
    assert 20 <= len(received_until_end(made)) < 40


def received_until_end(made: MiniClient) -> list[bytes]:
    cells = []
    try:
        while True:
            cells.append(made.receive().payload)
    except ConnectionError:
        return cells


def test_miscount(relays, certificate) -> None:
    relay = relays["miscount"]
    _coordinator, made = begin(relay, certificate)
    made.send_run(os.urandom(509 * 2000))
    made.receive_run(2000)
    now = time.time()
    while (counts := read_counts(relay.counts))[-1].utc_s < now:
        time.sleep(0.02)
    assert counts[-1].read_bytes == pytest.approx(1.5 * 2000 * 514, rel=0.02)


def test_background(relays, certificate) -> None:
    coordinator, made = begin(relays["background"], certificate)
    made.send_run(os.urandom(509))
    report = coordinator.receive_measurement()
    assert (report.sent_bytes, report.recv_bytes) == (1_000_000, 1_000_000)


def test_bad_certs(relays) -> None:
    with pytest.raises(PeerError, match=r"the peer owns RSA identity [0-9A-F]{40}, [0-9A-F]{40} expected"):
        client(relays["bad-certs"])


def test_refuse(relays, certificate) -> None:
    coordinator = client(relays["refuse"], certificate)
    assert coordinator.start(params(TOKEN)) == MeasErr(MeasErrCode.TOO_MANY)


def test_silent(relays, certificate) -> None:
    coordinator = client(relays["silent"], certificate)
    coordinator.send_measurement(params(TOKEN))
    coordinator.send(Command.CREATE_FAST, b"", CIRC + 1)
    assert coordinator.receive().command == Command.DESTROY
