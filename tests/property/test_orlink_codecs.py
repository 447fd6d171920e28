"""Whatever a peer sends, orlink raises nothing but a peer's error; and what is encoded is read back."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashflow.model.errors import PeerError
from flashflow.orlink import authenticate, certs, certs_cell, extend, meas, netinfo, ntor, relaycell
from flashflow.orlink.cells import PAYLOAD_BYTES, Cell, CellReader, Command, encode_cell, is_variable
from flashflow.orlink.ntor import expand_keys
from flashflow.orlink.relaycrypto import ClientHop, RelayHop
from support.orlink_keys import NOW_UTC_S, initiator, link_certificate, relay_keys, responder

RSA_KEY = relay_keys().rsa_identity.public_key()
CERTS = certs_cell.responder_certs(relay_keys(), link_certificate().certificate_der, NOW_UTC_S)
FACTS = authenticate.AuthFacts(*[bytes(32)] * 8)
SEEDS = [
    CERTS,
    *certs_cell.parse_certs(CERTS).values(),
    meas.MeasParams(1, 2, 3, (meas.MeasurerSpec(b"t" * 16, 4, ("::1", 5)),)).encode(),
    netinfo.NetInfo(1, "::1", ("127.0.0.1",)).encode(),
    extend.Extend2(extend.relay_specifiers(b"f" * 20, b"e" * 32, [("::1", 1)]), 2, b"h" * 84).encode(),
    authenticate.encode_authenticate(FACTS, b"r" * 24, lambda body: body[:64]),
    relaycell.RelayCell(2, 1, b"data").encode(),
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Something valid with a few bytes changed, cut or added: reaches deeper than random bytes do."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4)):
        data[at % len(data)] = value
    return bytes(data[: draw(st.integers(0, len(data)))] + draw(st.binary(max_size=8)))


ANYTHING = st.one_of(st.binary(max_size=600), damaged())

PARSERS: dict[str, Callable[[bytes], Any]] = {
    "certs": certs_cell.parse_certs,
    "verify_responder": lambda data: certs_cell.verify_responder(data, b"der", NOW_UTC_S),
    "verify_initiator": lambda data: certs_cell.verify_initiator(data, NOW_UTC_S),
    "ed25519 certificate": lambda data: certs.verify_ed25519_cert(
        data, certs.CertType.SIGNING, None, NOW_UTC_S
    ),
    "cross certificate": lambda data: certs.verify_cross_cert(data, RSA_KEY, NOW_UTC_S),
    "RSA identity": lambda data: certs.verify_rsa_identity(data, NOW_UTC_S),
    "measurement": meas.parse_measurement,
    "netinfo": netinfo.parse_netinfo,
    "extend2": extend.parse_extend2,
    "create2": extend.parse_create2,
    "created2": extend.parse_created2,
    "challenge": authenticate.parse_challenge,
    "authenticate": lambda data: authenticate.verify_authenticate(data, FACTS, bytes(32)),
    "relay cell": relaycell.parse_relay_cell,
    "client hop": lambda data: ClientHop(expand_keys(bytes(32))).receive(data),
    "relay hop": lambda data: RelayHop(expand_keys(bytes(32))).receive(data),
    "ntor client": lambda data: ntor.client_finish(
        ntor.client_begin(bytes(20), bytes(32), b"c" * 32)[0], data
    ),
    "ntor server": lambda data: ntor.server_reply(bytes(20), b"s" * 32, data, b"e" * 32),
    "initiator": lambda data: initiator().receive(data),
    "responder": lambda data: responder().receive(data),
}


def refused(call: Callable[[bytes], Any], data: bytes) -> PeerError | None:
    """The peer's error that `call` raises about `data`, if any; any other exception fails the test."""
    try:
        call(data)
    except PeerError as exc:
        return exc
    return None


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=80, deadline=None)
@given(data=ANYTHING)
def test_nothing_but_a_peers_error(name: str, data: bytes) -> None:
    refusal = refused(PARSERS[name], data)
    assert refusal is None or (refusal.reason and refusal.reason.isprintable())


HANDSHAKE_COMMANDS = [*Command, 77]


@settings(max_examples=80, deadline=None)
@given(
    cells=st.lists(
        st.tuples(st.sampled_from(HANDSHAKE_COMMANDS), ANYTHING, st.sampled_from([0, 0, 0, 1])), max_size=6
    ),
    versions=st.sampled_from([b"\0\4", b"\0\5\0\4", b"\0"]),
)
def test_handshakes_survive_any_cells(cells: list[tuple[int, bytes, int]], versions: bytes) -> None:
    stream = encode_cell(Cell(0, Command.VERSIONS, versions), circ_id_bytes=2)
    for command, payload, circ_id in cells:
        fitting = payload if is_variable(command) else payload[:PAYLOAD_BYTES]
        stream += encode_cell(Cell(circ_id, command, fitting))
    for handshake in (initiator(), responder()):
        refusal = refused(handshake.receive, stream)
        if refusal is not None:
            assert refusal.reason.startswith("link handshake: ")
            assert handshake.open is None


def cell_strategy() -> st.SearchStrategy[Cell]:
    fixed = st.builds(
        Cell,
        st.integers(0, 2**32 - 1),
        st.integers(0, 127).filter(lambda c: c != 7),
        st.binary(min_size=509, max_size=509),
    )
    variable = st.builds(
        Cell, st.integers(0, 2**32 - 1), st.integers(128, 255) | st.just(7), st.binary(max_size=1000)
    )
    return fixed | variable


@settings(max_examples=100, deadline=None)
@given(
    cells=st.lists(cell_strategy(), max_size=5),
    cuts=st.lists(st.integers(1, 700), max_size=12),
    tail=st.binary(max_size=4),
)
def test_cells_are_read_however_the_stream_is_cut(cells: list[Cell], cuts: list[int], tail: bytes) -> None:
    stream = b"".join(encode_cell(cell) for cell in cells) + tail
    reader, found = CellReader(), []
    for cut in [*cuts, len(stream)]:
        part, stream = stream[:cut], stream[cut:]
        reader.feed(part)
        while (cell := reader.next()) is not None:
            found.append(cell)
    assert found == cells
    assert reader.rest() + stream == tail


IPS = st.ip_addresses().map(str)
MEASURERS = st.builds(
    meas.MeasurerSpec,
    st.binary(min_size=16, max_size=16),
    st.integers(1, 65_535),
    st.tuples(IPS, st.integers(0, 65_535)),
)
MESSAGES = st.one_of(
    st.builds(
        meas.MeasParams,
        st.integers(0, 255),
        st.integers(0, 2**32 - 1),
        st.integers(1, 600),
        st.lists(MEASURERS, min_size=1, max_size=10).map(tuple),
    ),
    st.builds(meas.MeasBg, st.integers(0, 65_535), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
    st.builds(meas.MeasErr, st.sampled_from(meas.MeasErrCode)),
    st.builds(meas.MeasJoin, st.integers(0, 2**32 - 1), st.binary(min_size=16, max_size=16)),
)


@settings(max_examples=100, deadline=None)
@given(message=MESSAGES)
def test_measurement_messages_fit_a_cell_and_are_read_back(message: meas.Measurement) -> None:
    payload = message.encode()
    assert meas.parse_measurement(payload.ljust(PAYLOAD_BYTES, b"\0")) == message


@settings(max_examples=100, deadline=None)
@given(time_s=st.integers(0, 2**32 - 1), other=IPS, own=st.lists(IPS, max_size=20).map(tuple))
def test_netinfo_is_read_back(time_s: int, other: str, own: tuple[str, ...]) -> None:
    found = netinfo.NetInfo(time_s, other, own)
    assert netinfo.parse_netinfo(found.encode()) == found
