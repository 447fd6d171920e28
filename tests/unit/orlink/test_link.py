"""The two handshakes joined without sockets, and every way in which a peer is turned away."""

from collections.abc import Callable

import pytest

from flashflow.orlink.authenticate import encode_challenge
from flashflow.orlink.cells import Cell, Command, encode_cell
from flashflow.orlink.certs_cell import responder_certs
from flashflow.orlink.link import (
    INITIATOR_CELLS,
    RESPONDER_CELLS,
    InitiatorHandshake,
    LinkError,
    Phase,
    ResponderHandshake,
)
from flashflow.orlink.netinfo import NetInfo
from support.orlink_keys import (
    CHALLENGE,
    DAY_S,
    NOW_UTC_S,
    initiator,
    link_certificate,
    relay_keys,
    responder,
)

VERSIONS = encode_cell(Cell(0, Command.VERSIONS, b"\x00\x04\x00\x05"), circ_id_bytes=2)
PADDING = encode_cell(Cell(0, Command.VPADDING, b"pad"))
NETINFO = encode_cell(Cell(0, Command.NETINFO, NetInfo(0, "127.0.0.1", ()).encode()))


def certs() -> bytes:
    payload = responder_certs(relay_keys(), link_certificate().certificate_der, NOW_UTC_S)
    return encode_cell(Cell(0, Command.CERTS, payload))


def challenge() -> bytes:
    return encode_cell(Cell(0, Command.AUTH_CHALLENGE, encode_challenge(CHALLENGE)))


def run(client: InitiatorHandshake, server: ResponderHandshake, step: int) -> None:
    """Passes bytes to and fro, `step` at a time, until both are quiet."""
    to_server, to_client = client.start(), server.start()
    while to_server or to_client:
        if to_server:
            part, to_server = to_server[:step], to_server[step:]
            to_client += server.receive(part)
        if to_client:
            part, to_client = to_client[:step], to_client[step:]
            to_server += client.receive(part)


@pytest.mark.parametrize("step", [1, 7, 514, 100_000])
@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_both_sides_open(step: int, ip: str) -> None:
    client, server = initiator(peer_ip=ip), responder(peer_ip=ip)
    run(client, server, step)
    assert client.open is not None
    assert server.open is not None
    assert (client.open.identity, client.open.version) == (relay_keys().identity, 5)
    assert client.open.netinfo == NetInfo(int(NOW_UTC_S), ip, ("127.0.0.1", "::1"))
    assert server.open.identity is None
    assert server.open.netinfo == NetInfo(0, ip, ())
    assert client.open.rest == server.open.rest == b""


def test_trailing_bytes_are_handed_over_on_both_sides() -> None:
    client, server = initiator(), responder()
    answer = client.receive(server.receive(client.start()) + b"from the relay")
    server.receive(answer + b"from the client")
    assert client.open is not None
    assert server.open is not None
    assert client.open.rest == b"from the relay"
    assert server.open.rest == b"from the client"


def test_padding_and_later_versions_are_ignored() -> None:
    client = initiator()
    early = encode_cell(Cell(0, Command.VPADDING, b"early"), circ_id_bytes=2)
    authorize = encode_cell(Cell(0, Command.AUTHORIZE, b"x"), circ_id_bytes=2)
    later = encode_cell(Cell(0, Command.VERSIONS, b"\x00\x09"))
    client.receive(early + authorize + VERSIONS + PADDING + certs() + later + challenge() + PADDING + NETINFO)
    assert client.open is not None


def test_the_highest_common_version_is_chosen() -> None:
    client = initiator()
    client.receive(encode_cell(Cell(0, Command.VERSIONS, b"\0\3\0\4\0\7"), circ_id_bytes=2))
    client.receive(certs() + challenge() + NETINFO)
    assert client.open is not None
    assert client.open.version == 4


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\0\5\0", "3 bytes, an even number"),
        (b"\0\1\0\3", r"\[1, 3\], one of \[4, 5\]"),
        (b"", "speaks versions"),
    ],
)
def test_versions_that_do_not_fit(payload: bytes, reason: str) -> None:
    cell = encode_cell(Cell(0, Command.VERSIONS, payload), circ_id_bytes=2)
    for handshake in (initiator(), responder()):
        with pytest.raises(LinkError, match=reason):
            handshake.receive(cell)


INITIATOR_STEPS: dict[Phase, Callable[[], bytes]] = {
    Phase.VERSIONS: lambda: b"",
    Phase.CERTS: lambda: VERSIONS,
    Phase.CHALLENGE: lambda: VERSIONS + certs(),
    Phase.NETINFO: lambda: VERSIONS + certs() + challenge(),
}
RESPONDER_STEPS: dict[Phase, Callable[[], bytes]] = {
    Phase.VERSIONS: lambda: b"",
    Phase.CERTS_OR_NETINFO: lambda: VERSIONS,
    Phase.AUTHENTICATE: lambda: VERSIONS + certs(),
    Phase.NETINFO: lambda: VERSIONS + certs() + encode_cell(Cell(0, Command.AUTHENTICATE, b"")),
}


def test_the_tables_cover_all_phases_that_receive() -> None:
    assert set(INITIATOR_CELLS) == {*INITIATOR_STEPS, Phase.FAILED}
    assert set(RESPONDER_CELLS) == {*RESPONDER_STEPS, Phase.FAILED}


@pytest.mark.parametrize("phase", INITIATOR_STEPS)
@pytest.mark.parametrize("command", [*Command, 77])
def test_a_cell_out_of_phase_ends_the_initiator(phase: Phase, command: int) -> None:
    check_phase(initiator(), INITIATOR_STEPS[phase](), INITIATOR_CELLS[phase], phase, command)


@pytest.mark.parametrize("phase", RESPONDER_STEPS)
@pytest.mark.parametrize("command", [*Command, 77])
def test_a_cell_out_of_phase_ends_the_responder(phase: Phase, command: int) -> None:
    check_phase(responder(), RESPONDER_STEPS[phase](), RESPONDER_CELLS[phase], phase, command)


def check_phase(
    handshake: InitiatorHandshake | ResponderHandshake,
    before: bytes,
    legal: frozenset[Command],
    phase: Phase,
    command: int,
) -> None:
    handshake.receive(before)
    assert handshake.waits_for == phase.value
    width = 2 if phase is Phase.VERSIONS else 4
    if command not in legal:
        with pytest.raises(LinkError, match=rf"cell, but {phase.value} expected"):
            handshake.receive(encode_cell(Cell(0, command, b""), width))
        with pytest.raises(LinkError, match="the handshake failed"):
            handshake.receive(encode_cell(Cell(0, Command.VPADDING, b""), width))
    else:
        with pytest.raises(LinkError, match="cell on circuit 9, 0 expected"):
            handshake.receive(encode_cell(Cell(9, command, b""), width))


def test_receiving_after_opening_is_our_bug() -> None:
    client, server = initiator(), responder()
    run(client, server, 10_000)
    for handshake in (client, server):
        with pytest.raises(RuntimeError, match="belong to the open link"):
            handshake.receive(b"x")


@pytest.mark.parametrize("kind", ["RSA", "ed25519"])
def test_another_identity_than_expected(kind: str) -> None:
    mine, other = relay_keys().identity, relay_keys(1).identity
    client = InitiatorHandshake(
        tls_certificate_der=link_certificate().certificate_der,
        expected_rsa=other.rsa_fingerprint if kind == "RSA" else mine.rsa_fingerprint,
        expected_ed25519=other.ed25519,
        peer_ip="127.0.0.1",
        now_utc_s=NOW_UTC_S,
    )
    with pytest.raises(LinkError, match=f"owns {kind} identity [0-9A-F]+, [0-9A-F]+ expected"):
        client.receive(VERSIONS + certs())


def test_without_expectation_any_identity_is_proven_and_told() -> None:
    client = InitiatorHandshake(
        tls_certificate_der=link_certificate().certificate_der,
        expected_rsa=None,
        expected_ed25519=None,
        peer_ip="127.0.0.1",
        now_utc_s=NOW_UTC_S,
    )
    run(client, responder(relay_keys(2)), 4096)
    assert client.open is not None
    assert client.open.identity == relay_keys(2).identity


def test_certificates_for_another_tls_certificate() -> None:
    client = initiator(certificate=link_certificate(1))
    with pytest.raises(LinkError, match="type 5: made for another TLS certificate"):
        client.receive(VERSIONS + certs())
    assert client.open is None


@pytest.mark.parametrize(
    ("now_utc_s", "reason"),
    [
        (NOW_UTC_S + 31 * DAY_S, "type 2: expired at 2027-02-14"),
        (NOW_UTC_S - 3 * DAY_S, "type 2: valid from 2027-01-13 08:00:00 UTC only"),
    ],
)
def test_certificates_outside_their_time(now_utc_s: float, reason: str) -> None:
    with pytest.raises(LinkError, match=reason):
        initiator(now_utc_s=now_utc_s).receive(VERSIONS + certs())


@pytest.mark.parametrize(
    ("cell", "before", "reason"),
    [
        (Cell(0, Command.CERTS, b"\x01\x02"), Phase.CERTS, "CERTS cell: cut short"),
        (Cell(0, Command.AUTH_CHALLENGE, bytes(33)), Phase.CHALLENGE, "AUTH_CHALLENGE cell: cut short"),
        (
            Cell(0, Command.AUTH_CHALLENGE, bytes(33) + b"\x01\0"),
            Phase.CHALLENGE,
            "AUTH_CHALLENGE cell: cut short",
        ),
        (Cell(0, Command.NETINFO, bytes(4) + b"\x04\xff" * 250), Phase.NETINFO, "NETINFO cell: cut short"),
    ],
)
def test_malformed_cells_in_their_phase(cell: Cell, before: Phase, reason: str) -> None:
    client = initiator()
    client.receive(INITIATOR_STEPS[before]())
    with pytest.raises(LinkError, match=f"link handshake: {reason}"):
        client.receive(encode_cell(cell))
