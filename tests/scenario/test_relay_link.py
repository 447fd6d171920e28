"""A relay's link and an initiator, joined without sockets: bytes go from one to the other by hand."""

import pytest

from flashflow.model.errors import NetworkError, PeerError
from flashflow.orlink import extend, ntor
from flashflow.orlink.cells import Cell, CellReader, Command, MeasCommands, encode_cell
from flashflow.orlink.link import InitiatorHandshake, ResponderHandshake
from flashflow.orlink.meas import MeasBg
from flashflow.orlink.relaycrypto import ClientHop
from flashflow.relay.buffers import TX_BYTES
from flashflow.relay.celllink import FLUSH_S, HANDSHAKE_S, LINGER_S, MAX_SKIPPED_BYTES, Stage
from flashflow.relay.circuits import Services
from flashflow.relay.core.effects import Role
from flashflow.relay.core.events import JoinReceived
from flashflow.relay.counting import Counter
from flashflow.relay.echo import Echo
from flashflow.relay.link import Link
from support.orlink_keys import CHALLENGE, NOW_UTC_S, link_certificate, relay_keys

CIRC = 0x80000001
NO_LIMIT = 1 << 20


class FakeTls:
    """What TlsStream does, on two byte arrays. `window` is how much the other side takes."""

    def __init__(self) -> None:
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.window = 1 << 30
        self.unfinished_bytes = 0
        self.offered: list[int] = []
        self.hand_shaken = False
        self.at_end = False
        self.finished = False

    def handshake(self) -> bool:
        return self.hand_shaken

    def certificate_sha256(self) -> bytes:
        return b"c" * 32

    def recv_into(self, room: memoryview) -> int | None:
        count = min(len(room), len(self.incoming), 16_384)
        if count == 0:
            return 0 if self.at_end else None
        room[:count] = self.incoming[:count]
        del self.incoming[:count]
        return count

    def send(self, data: memoryview) -> int:
        self.offered.append(len(data))
        count = min(len(data), self.window, 16_384)
        self.unfinished_bytes = 0 if count else min(len(data), 16_384)
        self.outgoing += data[:count]
        self.window -= count
        return count

    def finish(self) -> None:
        self.finished = True

    def close(self) -> None:
        self.finished = True


class Pair:
    """A link and the initiator's end of it."""

    def __init__(self) -> None:
        self.keys = relay_keys()
        self.tls = FakeTls()
        self.counter = Counter()
        self.events: list[object] = []
        services = Services(
            node_id=self.keys.identity.rsa_fingerprint,
            ntor_private=self.keys.ntor_private,
            commands=MeasCommands(),
            loop=False,
            echo=Echo(),
            random=lambda count: b"r" * count,
            post=self._post,
        )
        self.link = Link(1, "192.0.2.1", self.tls, self.counter, services, self._handshake, 100.0)
        self.reader = CellReader()

    def _post(self, event: object) -> None:
        self.events.append(event)
        if isinstance(event, JoinReceived):
            self.link.role = Role.MEASURER

    def _handshake(self, link: Link) -> ResponderHandshake:
        return ResponderHandshake(
            keys=self.keys,
            link_certificate_der=link_certificate().certificate_der,
            peer_ip=link.host,
            own_ips=["127.0.0.1"],
            auth_challenge=CHALLENGE,
            now_utc_s=NOW_UTC_S,
        )

    def arrives(self, data: bytes, limit: int = NO_LIMIT) -> int:
        self.tls.incoming += data
        self.link.readable = True
        return self.link.read(limit)

    def leaves(self, limit: int = NO_LIMIT) -> bytes:
        self.link.write(limit)
        data, self.tls.outgoing = bytes(self.tls.outgoing), bytearray()
        return data

    def opened(self, behind: bytes = b"") -> "Pair":
        """Completes the handshake; `behind` comes right behind NETINFO."""
        initiator = InitiatorHandshake(
            tls_certificate_der=link_certificate().certificate_der,
            expected_rsa=self.keys.identity.rsa_fingerprint,
            expected_ed25519=self.keys.identity.ed25519,
            peer_ip="127.0.0.1",
            now_utc_s=NOW_UTC_S,
        )
        self.tls.hand_shaken = True
        self.arrives(initiator.start())
        self.arrives(initiator.receive(self.leaves()) + behind)
        return self

    def create(self) -> ClientHop:
        fingerprint = self.keys.identity.rsa_fingerprint
        state, onionskin = ntor.client_begin(fingerprint, self.keys.ntor_public, b"x" * 32)
        self.arrives(encode_cell(Cell(CIRC, Command.CREATE2, extend.encode_create2(onionskin))))
        [created] = self.cells()
        return ClientHop(ntor.client_finish(state, extend.parse_created2(created.payload)))

    def joined(self) -> ClientHop:
        hop = self.opened().create()
        self.arrives(encode_cell(Cell(CIRC, Command.MEASUREMENT, b"\x04" + bytes(20))))
        return hop

    def cells(self) -> list[Cell]:
        self.reader.feed(self.leaves())
        return list(iter(self.reader.next, None))


def echo_cells(payloads: list[bytes]) -> bytes:
    return b"".join(encode_cell(Cell(CIRC, Command.MEAS_ECHO, payload)) for payload in payloads)


def test_nothing_is_read_before_tls_is_complete() -> None:
    pair = Pair()
    assert pair.arrives(b"x" * 100) == 0
    assert not pair.link.readable
    assert (pair.link.stage, pair.link.deadline_s) == (Stage.TLS, 100.0 + HANDSHAKE_S)


def test_handshake_then_open_without_a_deadline() -> None:
    link = Pair().opened().link
    assert (link.stage, link.deadline_s, link.certificate) == (Stage.OPEN, None, b"c" * 32)


def test_cells_right_behind_the_handshake_are_not_lost() -> None:
    pair = Pair().opened(encode_cell(Cell(CIRC, Command.CREATE_FAST, bytes(20))))
    assert [cell.command for cell in pair.cells()] == [Command.DESTROY]


@pytest.mark.parametrize("step", [1, 7, 513, 514, 515, 5000])
def test_echo_is_the_same_however_the_bytes_come(step) -> None:
    pair = Pair()
    hop = pair.joined()
    payloads = [bytes([number]) * 509 for number in range(12)]
    stream, back = echo_cells(payloads), []
    for start in range(0, len(stream), step):
        pair.arrives(stream[start : start + step])
        back += pair.cells()
    assert [cell.payload for cell in back] == [hop.forward.cipher.crypt(payload) for payload in payloads]


def test_it_reads_no_more_than_it_may() -> None:
    pair = Pair()
    pair.joined()
    stream = echo_cells([b"x"] * 10)
    assert pair.arrives(stream, 700) == 700
    assert len(pair.tls.incoming) == len(stream) - 700
    assert pair.link.read(NO_LIMIT) == len(stream) - 700


def test_who_does_not_read_is_not_read_from() -> None:
    pair = Pair()
    pair.joined()
    pair.tls.window = 0
    pair.tls.incoming += echo_cells([b"x"]) * 1000
    pair.link.readable = True
    while pair.link.wants_read:
        pair.link.read(NO_LIMIT)
        pair.link.write(NO_LIMIT)
    assert len(pair.link.tx) < TX_BYTES
    assert len(pair.tls.incoming) > 0
    pair.tls.window = 1 << 30
    back = 0
    while pair.link.readable or len(pair.link.tx):
        back += len(pair.leaves())
        pair.link.read(NO_LIMIT)
    assert back == 514 * 1000
    assert pair.counter.read_bytes - pair.counter.written_bytes < 514 * 1000


def test_a_write_that_tls_has_begun_is_offered_again_in_full() -> None:
    pair = Pair()
    pair.joined()
    pair.leaves()
    pair.tls.window = 0
    pair.arrives(echo_cells([b"x"] * 20))
    pair.link.write(5000)
    assert not pair.link.writable
    pair.tls.window = 1 << 30
    pair.tls.offered.clear()
    pair.link.write(100)
    assert pair.tls.offered[0] == 5000


def test_variable_cells_behind_the_handshake_are_skipped() -> None:
    pair = Pair().opened()
    padding = encode_cell(Cell(0, Command.VPADDING, b"p" * 900))
    refused = encode_cell(Cell(CIRC, Command.CREATE_FAST, b""))
    stream = padding + refused + padding + refused
    for start in range(0, len(stream), 100):
        pair.arrives(stream[start : start + 100])
    assert [cell.command for cell in pair.cells()] == [Command.DESTROY] * 2


def test_an_oversize_variable_cell_ends_the_link() -> None:
    pair = Pair().opened()
    with pytest.raises(PeerError, match=f"VPADDING cell: {MAX_SKIPPED_BYTES + 1} bytes, at most"):
        pair.arrives(encode_cell(Cell(0, Command.VPADDING, bytes(MAX_SKIPPED_BYTES + 1))))


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n" * 40, bytes(2000), b"\0\0\7\0\3abc"])
def test_garbage_is_a_peers_error(garbage) -> None:
    pair = Pair()
    pair.tls.hand_shaken = True
    with pytest.raises(PeerError):
        pair.arrives(garbage)


def test_the_end_of_the_stream_is_a_network_error() -> None:
    pair = Pair().opened()
    pair.tls.at_end = True
    with pytest.raises(NetworkError, match="closed by the other side"):
        pair.arrives(b"")


def test_flushing_sends_the_rest_and_then_lingers() -> None:
    pair = Pair()
    pair.joined()
    pair.arrives(echo_cells([b"x"] * 3))
    pair.link.flush(200.0)
    assert (pair.link.stage, pair.link.deadline_s) == (Stage.FLUSHING, 200.0 + FLUSH_S)
    assert not pair.link.wants_read
    assert len(pair.cells()) == 3
    pair.link.settle(201.0)
    assert (pair.link.stage, pair.link.deadline_s) == (Stage.LINGERING, 201.0 + LINGER_S)
    assert pair.tls.finished


def test_lingering_drops_what_is_buffered() -> None:
    pair = Pair()
    pair.joined()
    pair.arrives(echo_cells([b"x"] * 3))
    pair.link.linger(200.0)
    assert pair.leaves() == b""
    assert not pair.link.wants_write


def test_a_report_for_who_does_not_read_ends_the_link() -> None:
    pair = Pair()
    pair.opened().create()
    pair.tls.window = 0
    pair.link.writable = False
    for second in range(pair.link.tx.free_bytes // 514):
        pair.link.send_measurement(CIRC, MeasBg(second, 0, 0))
    with pytest.raises(NetworkError, match="does not read"):
        pair.link.send_measurement(CIRC, MeasBg(999, 0, 0))
