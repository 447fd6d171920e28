"""A relay process, measured by a small client over real TLS, on both kinds of loopback address."""

import os
import signal
import socket
import ssl
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest

from flashflow.model.ids import Address
from flashflow.orlink.cells import Command
from flashflow.orlink.keys import LinkCertificate, make_link_certificate
from flashflow.orlink.meas import MeasBg, MeasErr, MeasErrCode, MeasParamsOk
from flashflow.testnet.counts import read_counts
from flashflow.testnet.relays import RelayProcess, RelaySpec
from support.mini_client import MiniClient, connect, params

BOTH = (Address("127.0.0.1", 0), Address("::1", 0))
TOKEN, OTHER_TOKEN = b"t" * 16, b"u" * 16


@pytest.fixture(scope="module")
def certificate() -> LinkCertificate:
    now = time.time()
    return make_link_certificate(now - 86_400, now + 86_400)


def trusting(certificate: LinkCertificate, *more: str) -> tuple[str, ...]:
    return (
        "--coordinator",
        sha256(certificate.certificate_der).hexdigest(),
        "--max-per-period",
        "1000",
        *more,
    )


@contextmanager
def relay_in(folder: Path, *options: str) -> Iterator[RelayProcess]:
    with RelayProcess(RelaySpec(folder, "tester", BOTH, options)) as process:
        yield process.wait_ready()


@pytest.fixture(scope="module")
def relay(tmp_path_factory, certificate) -> Iterator[RelayProcess]:
    """One relay for the tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("relay")
    with relay_in(folder, *trusting(certificate)) as process:
        yield process


@pytest.fixture(params=[0, 1], ids=["v4", "v6"])
def address(request, relay) -> Address:
    return relay.addresses[request.param]


def client(relay: RelayProcess, address: Address, certificate: LinkCertificate | None = None) -> MiniClient:
    keys = relay.keys
    made = MiniClient(address, relay.fingerprint, keys.identity.ed25519, keys.ntor_public, certificate)
    made.create()
    return made


def measurer(relay: RelayProcess, address: Address, token: bytes = TOKEN) -> MiniClient:
    made = client(relay, address)
    made.join(7, token)
    return made


def echo(made: MiniClient, count: int) -> tuple[bytes, bytes]:
    """What came back for `count` cells, and what should have."""
    payload = os.urandom(509 * count)
    expected = made.hops[0x80000001].forward.cipher.crypt(payload)
    made.send_run(payload)
    return made.receive_run(count), expected


def test_a_measurement(relay, address, certificate) -> None:
    coordinator = client(relay, address, certificate)
    assert coordinator.start(params(TOKEN, duration_s=3, host=address.host)) == MeasParamsOk()
    measurers = [measurer(relay, address) for _ in range(4)]
    for count in (1, 127, 300):
        for made in measurers:
            got, expected = echo(made, count)
            assert got == expected
    assert [coordinator.receive_measurement() for _ in range(3)] == [MeasBg(n, 0, 0) for n in (1, 2, 3)]
    assert all(made.at_end() for made in measurers)


def test_a_restart_does_not_give_a_coordinator_more(tmp_path, certificate) -> None:
    for limit, answer in (("1", MeasParamsOk()), ("1", MeasErr(MeasErrCode.TOO_MANY)), ("2", MeasParamsOk())):
        trusted = (*trusting(certificate), "--max-per-period", limit)
        with relay_in(tmp_path, *trusted) as relay:
            coordinator = client(relay, relay.address, certificate)
            assert coordinator.start(params(TOKEN)) == answer


def test_its_own_counts_agree_with_what_was_sent(relay, address, certificate) -> None:
    before = last_count(relay)
    coordinator = client(relay, address, certificate)
    coordinator.start(params(TOKEN))
    made = measurer(relay, address)
    echo(made, 1000)
    coordinator.receive_measurement()
    after = last_count(relay)
    handshakes = 20 * 514
    assert 1000 * 514 <= after.read_bytes - before.read_bytes < 1000 * 514 + handshakes
    assert 1000 * 514 <= after.written_bytes - before.written_bytes < 1000 * 514 + handshakes


def last_count(relay):
    """The newest line, once one was written from now on."""
    now = time.time()
    while not (counts := read_counts(relay.counts)) or counts[-1].utc_s < now:
        time.sleep(0.02)
    return counts[-1]


def test_strangers_cannot_measure(relay, address) -> None:
    now = time.time()
    for certificate in (None, make_link_certificate(now - 1000, now + 1000)):
        stranger = client(relay, address, certificate)
        assert stranger.start(params(TOKEN)) == MeasErr(MeasErrCode.NOT_TRUSTED)
        assert stranger.at_end()


def test_wrong_tokens_and_too_many_sockets_close_the_link_and_nothing_else(
    relay, address, certificate
) -> None:
    coordinator = client(relay, address, certificate)
    coordinator.start(params(TOKEN, sockets=1, duration_s=5))
    good = measurer(relay, address)
    assert echo(good, 3)[0] != b""
    assert measurer(relay, address, OTHER_TOKEN).at_end()
    assert measurer(relay, address).at_end()
    unjoined = client(relay, address)
    unjoined.send_run(bytes(509))
    assert unjoined.at_end()
    got, expected = echo(good, 10)
    assert got == expected
    assert coordinator.receive_measurement().second == 1
    coordinator.close()


def test_a_lost_coordinator_ends_the_measurement(relay, address, certificate) -> None:
    coordinator = client(relay, address, certificate)
    coordinator.start(params(TOKEN, duration_s=60))
    made = measurer(relay, address)
    echo(made, 3)
    coordinator.close()
    assert made.at_end()
    again = client(relay, address, certificate)
    assert again.start(params(TOKEN)) == MeasParamsOk()
    again.close()


def test_one_measurement_at_a_time(relay, address, certificate) -> None:
    first, second = client(relay, address, certificate), client(relay, address, certificate)
    assert first.start(params(TOKEN)) == MeasParamsOk()
    assert second.start(params(TOKEN)) == MeasErr(MeasErrCode.BUSY)
    assert second.at_end()
    first.close()


def test_garbage_and_half_handshakes_disturb_nobody(relay, address, certificate) -> None:
    coordinator = client(relay, address, certificate)
    coordinator.start(params(TOKEN, duration_s=5))
    made = measurer(relay, address)
    echo(made, 1)
    silent = [socket.create_connection(tuple(address)) for _ in range(20)]
    for number in range(20):
        plain = socket.create_connection(tuple(address))
        plain.sendall(os.urandom(2000))
        plain.close()
        with connect(address, None, 5.0) as wrapped:
            wrapped.sendall(
                (b"GET / HTTP/1.1\r\n\r\n", os.urandom(3000), b"\0\0\7\xff\xff" + bytes(60_000))[number % 3]
            )
    got, expected = echo(made, 500)
    assert got == expected
    assert [coordinator.receive_measurement().second for _ in range(2)] == [1, 2]
    coordinator.close()
    for plain in silent:
        plain.close()


def test_cells_that_break_the_protocol_close_only_their_link(relay, address) -> None:
    for command, payload in (
        (Command.MEASUREMENT, b"\xc8"),
        (Command.MEAS_ECHO, b""),
        (Command.MEASUREMENT, b"\1"),
    ):
        made = client(relay, address)
        made.send(command, payload)
        assert made.at_end()
    assert client(relay, address).hops


def test_a_limit_holds_for_reading_and_writing(tmp_path, certificate) -> None:
    rate = 2_000_000
    with relay_in(tmp_path, *trusting(certificate, "--rate-mbps", "16")) as limited:
        coordinator = client(limited, limited.address, certificate)
        coordinator.start(params(TOKEN, duration_s=2))
        made = measurer(limited, limited.address)
        pump(made, coordinator)
        counts = [count for count in read_counts(limited.counts) if count.utc_s > time.time() - 3]
    for before, after in pairwise(counts):
        allowed = rate * (after.utc_s - before.utc_s + 0.02) + 20_000
        assert after.read_bytes - before.read_bytes <= allowed
        assert after.written_bytes - before.written_bytes <= allowed
    assert counts[-1].read_bytes - counts[0].read_bytes > rate


def pump(made: MiniClient, coordinator: MiniClient, window: int = 400) -> int:
    """Keeps `window` cells on their way until the relay closes the link: how many cells came back."""
    payload = os.urandom(509 * window)
    back = 0
    try:
        made.send_run(payload)
        while True:
            made.receive_run(window // 2)
            back += window // 2
            made.send_run(payload[: 509 * (window // 2)])
    except (ConnectionError, ssl.SSLError):
        return back


def test_its_limit_can_be_changed_while_it_runs(tmp_path, certificate) -> None:
    with relay_in(tmp_path, *trusting(certificate, "--rate-mbps", "80")) as limited:
        echoed = []
        for mbps in ("80", "8"):
            (tmp_path / "rate_mbps").write_text(mbps)
            limited.signal(signal.SIGHUP)
            wait_for_log(limited, f"rate is now {float(mbps) * 125_000:g} bytes/s")
            coordinator = client(limited, limited.address, certificate)
            coordinator.start(params(TOKEN, duration_s=1))
            echoed.append(pump(measurer(limited, limited.address), coordinator))
        assert echoed[1] * 514 <= 1_000_000 * 1.3
        assert echoed[0] > 2 * echoed[1]
        (tmp_path / "rate_mbps").write_text("fast")
        limited.signal(signal.SIGHUP)
        wait_for_log(limited, "a number of Mbit/s expected")


def wait_for_log(relay: RelayProcess, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in relay.log.read_text():
        assert time.monotonic() < deadline, relay.log_tail()
        time.sleep(0.02)


def test_keys_stay_and_are_private(tmp_path) -> None:
    with relay_in(tmp_path) as first:
        fingerprint, descriptor = first.fingerprint, first.descriptor
    with relay_in(tmp_path) as second:
        assert second.fingerprint == fingerprint
    assert stat.S_IMODE((tmp_path / "relay_keys.json").stat().st_mode) == 0o600
    assert f"router tester 127.0.0.1 {first.address.port} 0 0" in descriptor
    assert f"or-address [::1]:{first.addresses[1].port}" in descriptor


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_it(tmp_path, certificate, number, status) -> None:
    with relay_in(tmp_path, *trusting(certificate)) as process:
        held = client(process, process.address)
        process.signal(number)
        assert held.at_end()
        assert process.wait() == status
