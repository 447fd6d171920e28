"""Our orlink against the distribution's tor: an independent peer, on both sides of a link."""

import http.client
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flashflow.orlink.descriptor import build_server_descriptor
from flashflow.orlink.keys import RelayKeys, make_link_certificate
from flashflow.orlink.relaycell import MAX_DATA_BYTES, RelayCell, RelayCommand
from support.or_client import OrClient, Target
from support.or_server import OrServer
from support.real_tor import RealTor, need_tor

ADDRESSES = ["127.0.0.1", "::1"]
DAY_S = 86_400
DOCUMENT_TIMEOUT_S = 40.0


def fetch(target: Target, path: str) -> str:
    """A document over one circuit, asked for until tor has made it."""
    deadline = time.monotonic() + DOCUMENT_TIMEOUT_S
    with closing(OrClient(target)) as client:
        client.create()
        while True:
            status, body = client.get(path)
            if status == 200:
                return body.decode()
            assert time.monotonic() < deadline, f"{path}: still status {status}"
            time.sleep(0.25)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealTor]:
    need_tor()
    with RealTor(tmp_path_factory.mktemp("relay")) as tor:
        yield tor


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealTor]:
    need_tor()
    with RealTor(tmp_path_factory.mktemp("authority"), authority=True) as tor:
        yield tor


@pytest.mark.parametrize("ip", ADDRESSES)
def test_smoke_a_circuit_to_tor_fetches_its_descriptor(relay: RealTor, ip: str) -> None:
    target = relay.target(ip)
    body = fetch(target, "/tor/server/authority")
    assert body.startswith("router probe ")
    assert body.replace(" ", "").count(target.rsa_fingerprint.hex().upper()) == 1


@pytest.mark.net
@pytest.mark.parametrize("ip", ADDRESSES)
def test_a_circuit_to_tor_fetches_the_consensus(authority: RealTor, ip: str) -> None:
    consensus = fetch(authority.target(ip), "/tor/status-vote/current/consensus")
    assert consensus.startswith("network-status-version 3\n")
    assert consensus.rstrip().endswith("-----END SIGNATURE-----")


@pytest.mark.net
def test_sendmes_keep_a_long_transfer_going(relay: RealTor) -> None:
    """More than 1,000 DATA cells, tor's circuit window: without our authenticated SENDMEs it would stall."""
    with closing(OrClient(relay.target())) as client:
        client.create()
        while client.get("/tor/server/authority")[0] != 200:
            time.sleep(0.25)
        while client.data_cells < 1_300:
            assert client.get("/tor/server/authority")[0] == 200


@pytest.mark.net
@pytest.mark.parametrize("ip", ADDRESSES)
def test_tor_extends_to_our_responder_and_proves_its_identity(
    relay: RealTor, tmp_path: Path, ip: str
) -> None:
    now_utc_s = time.time()
    certificate = make_link_certificate(now_utc_s - DAY_S, now_utc_s + DAY_S)
    server = OrServer(RelayKeys.generate(), certificate, tmp_path, ip)
    target = relay.target()
    try:
        with closing(OrClient(target)) as client:
            client.create()
            client.extend(server.target)
            for size in (0, 1, MAX_DATA_BYTES):
                client.send_relay(RelayCommand.DATA, b"d" * size)
                assert client.receive_relay() == (1, RelayCell(RelayCommand.DATA, 1, b"d" * size))
            assert server.link is not None
            assert server.link.identity is not None
            assert server.link.identity.rsa_fingerprint == target.rsa_fingerprint
            assert server.link.identity.ed25519 == target.ed25519
    finally:
        server.close()


@pytest.mark.net
def test_tor_refuses_our_responder_with_another_identity(relay: RealTor, tmp_path: Path) -> None:
    now_utc_s = time.time()
    certificate = make_link_certificate(now_utc_s - DAY_S, now_utc_s + DAY_S)
    server = OrServer(RelayKeys.generate(), certificate, tmp_path, "127.0.0.1")
    wanted = RelayKeys.generate().identity
    there = server.target
    other = Target(there.ip, there.port, wanted.rsa_fingerprint, wanted.ed25519, there.ntor_key)
    try:
        with closing(OrClient(relay.target())) as client:
            client.create()
            with pytest.raises(AssertionError, match="RELAY expected, got"):
                client.extend(other)
    finally:
        server.close()


@pytest.mark.net
def test_an_authority_accepts_our_descriptor(authority: RealTor) -> None:
    target = authority.target()
    keys = RelayKeys.generate()
    text = build_server_descriptor(
        keys,
        nickname="ours",
        address="127.0.0.1",
        or_port=9001,
        bandwidth_avg=1_000_000,
        bandwidth_burst=1_000_000,
        bandwidth_observed=500_000,
        published_utc_s=time.time(),
        ipv6=("::1", 9001),
    )
    with closing(http.client.HTTPConnection(target.ip, authority.ports.directory, timeout=10)) as connection:
        connection.request("POST", "/tor/", text)
        answer = connection.getresponse()
        assert answer.status == 200, answer.reason
    assert fetch(target, f"/tor/server/fp/{keys.identity.rsa_fingerprint.hex().upper()}") == text
