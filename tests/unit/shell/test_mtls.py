"""TLS with pinned certificates, both sides in memory: who is refused, and what the refused side is told."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flashflow.keys import OwnIdentity, PeerIdentity, load_certificate, load_own, load_peer_certs
from flashflow.model.errors import LocalError
from flashflow.shell.mtls import TlsPipe, client_context, explain, server_context
from support.keyring import Keyring

NOW = datetime.now(UTC)


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path, "m1")


def server(keys: Keyring) -> TlsPipe:
    own = load_own(keys.coord_key, NOW)
    return TlsPipe(server_context(own, load_peer_certs(keys.coord_dir, own).values()), server_side=True)


def client(own: OwnIdentity, coordinator: PeerIdentity) -> TlsPipe:
    return TlsPipe(client_context(own, coordinator), server_side=False)


def own_of(path: Path) -> OwnIdentity:
    """Also of a certificate that has expired, which load_own would refuse."""
    peer = load_certificate(path)
    return OwnIdentity(peer.name, peer.fingerprint, path, peer.not_after)


def shake(one: TlsPipe, other: TlsPipe) -> tuple[str, str]:
    """Exchange bytes until both are quiet; gives what each side has to say about its failure, or ''."""
    texts = ["", ""]
    one.start()
    sides = (one, other)
    for turn in range(12):
        sender, receiver = sides[turn % 2], sides[1 - turn % 2]
        data = sender.take_outgoing()
        if data and not texts[1 - turn % 2]:
            try:
                receiver.receive(data)
            except ssl.SSLError as error:
                texts[1 - turn % 2] = explain(error, "OWN", "PINNED")
    return texts[0], texts[1]


def test_the_right_certificates_open_a_tls_1_3_connection(keys: Keyring) -> None:
    ours, theirs = client(own_of(keys.key("m1")), load_certificate(keys.coord_cert)), server(keys)
    assert shake(ours, theirs) == ("", "")
    assert ours.open
    assert theirs.open
    assert theirs.peer_fingerprint() == load_certificate(keys.key("m1")).fingerprint
    assert ours.peer_fingerprint() == load_certificate(keys.coord_cert).fingerprint
    ours.send(b"hello")
    assert theirs.receive(ours.take_outgoing()) == b"hello"
    theirs.say_closed()
    assert ours.receive(theirs.take_outgoing()) == b""
    assert ours.closed


def test_bytes_may_come_one_by_one(keys: Keyring) -> None:
    ours, theirs = client(own_of(keys.key("m1")), load_certificate(keys.coord_cert)), server(keys)
    shake(ours, theirs)
    ours.send(b"hello")
    came = b"".join(theirs.receive(bytes([byte])) for byte in ours.take_outgoing())
    assert came == b"hello"


def test_an_unknown_measurer_is_refused_and_told_at_its_first_read(keys: Keyring) -> None:
    stranger = keys.add("m2", known=False)
    ours, theirs = client(own_of(stranger), load_certificate(keys.coord_cert)), server(keys)
    told, said = shake(ours, theirs)
    assert ours.open  # in TLS 1.3 the client's handshake is over before it is refused
    assert not theirs.open
    assert said == (
        "the other side shows a certificate that is not trusted: copy its present .cert.pem to PINNED"
    )
    assert (
        told
        == "the other side does not know our certificate (OWN): copy our .cert.pem into its key directory"
    )


def test_an_expired_measurer_is_refused_and_told(keys: Keyring) -> None:
    old = keys.add("old", age=timedelta(days=4000))
    told, said = shake(client(own_of(old), load_certificate(keys.coord_cert)), server(keys))
    assert said.startswith("the other side's certificate has expired: make a new one")
    assert told.startswith("the other side says that our certificate (OWN) has expired: make a new one")


def test_a_certificate_that_is_not_valid_yet_points_to_the_clocks(keys: Keyring) -> None:
    young = keys.add("young", age=timedelta(days=-3))
    said = shake(client(own_of(young), load_certificate(keys.coord_cert)), server(keys))[1]
    assert said == "the other side's certificate is not valid yet: check the clocks of both hosts"


def test_a_wrong_coordinator_is_refused_by_the_measurer(keys: Keyring) -> None:
    other = load_certificate(keys.add("m2"))
    ours = client(own_of(keys.key("m1")), other)
    told = shake(ours, server(keys))[0]
    assert told.startswith("the other side shows a certificate that is not trusted")
    assert not ours.open


def test_the_coordinators_own_certificate_is_not_a_measurers(keys: Keyring) -> None:
    """FF-222: whoever has the coordinator's key file cannot join as a measurer."""
    ours, theirs = client(own_of(keys.coord_key), load_certificate(keys.coord_cert)), server(keys)
    shake(ours, theirs)
    assert not theirs.open


def test_a_client_without_certificate_is_refused(keys: Keyring) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    theirs = server(keys)
    told, said = shake(TlsPipe(context, server_side=False), theirs)
    assert not theirs.open
    assert "TLS failed" in said
    assert told == "the other side wants a certificate and got none"


def test_older_tls_is_refused(keys: Keyring) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    told, said = shake(TlsPipe(context, server_side=False), server(keys))
    assert told == said == "the other side does not speak TLS 1.3"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "the other side speaks HTTP, not TLS"),
        (b"\x00" * 64, "the other side does not speak TLS"),
        (b"measure me please" * 4, "the other side does not speak TLS"),
    ],
)
def test_other_protocols_are_named(keys: Keyring, data: bytes, text: str) -> None:
    with pytest.raises(ssl.SSLError) as caught:
        server(keys).receive(data)
    assert explain(caught.value, "OWN", "PINNED") == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "connection refused"),
        (OSError(111, "Connect call failed ('::1', 1, 0, 0)"), "connection refused"),
        (OSError("Multiple exceptions: [Errno 113] Connect call failed, [Errno 111] x"), "no route to host"),
        (socket.gaierror(-2, "Name or service not known"), "name or service not known"),
        (TimeoutError(), "no answer in time"),
        (OSError("two\nlines"), "two lines"),
        (None, "connection closed"),
        (RuntimeError("odd"), "RuntimeError: odd"),
    ],
)
def test_other_errors_are_one_line(error: BaseException | None, text: str) -> None:
    assert explain(error, "OWN", "PINNED") == text


def test_a_server_without_measurers_can_start(keys: Keyring) -> None:
    own = load_own(keys.coord_key, NOW)
    assert server_context(own, []).minimum_version is ssl.TLSVersion.TLSv1_3


def test_a_file_that_tls_cannot_use_is_named(keys: Keyring) -> None:
    own = OwnIdentity("coord", "00", keys.coord_cert, NOW)
    with pytest.raises(LocalError, match="cannot be used for TLS"):
        server_context(own, [])
