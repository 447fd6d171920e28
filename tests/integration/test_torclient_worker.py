"""A worker against an echo peer over loopback: honest, cheating, broken."""

import socket
import threading
import time

import numpy as np
import pytest

from flashflow.orlink.cells import Cell, Command, encode_cell
from flashflow.orlink.keys import RelayKeys
from flashflow.orlink.meas import MeasErr, MeasErrCode
from flashflow.torclient.core.messages import CircuitEnded
from support.echo_peer import EchoPeer, decrypted, honest
from support.worker_world import WorkerWorld

LOOPBACKS = ["127.0.0.1", "::1"]
PADDING = encode_cell(Cell(0, Command.PADDING, b""))


@pytest.fixture(scope="module")
def keys():
    return RelayKeys.generate()


@pytest.fixture
def start_peer(tmp_path, keys):
    peers = []

    def start(**options):
        peers.append(EchoPeer(tmp_path / f"link{len(peers)}.pem", **{"keys": keys, **options}))
        return peers[-1]

    yield start
    for peer in peers:
        peer.close()


def is_ended_circuit(message):
    return isinstance(message, CircuitEnded)


@pytest.mark.parametrize("host", LOOPBACKS)
def test_honest_echo_on_four_circuits(start_peer, host):
    peer = start_peer(host=host)
    with WorkerWorld() as world:
        world.open_built(peer, range(1, 5))
        world.begin(range(1, 5), dur_s=2)
        assert world.ended().reason is None
    assert [report.second for report in world.seconds] == [1, 2]
    assert all(0 < report.recv_bytes < 4_400_000 for report in world.seconds)
    assert all(report.recv_bytes % 514 == 0 for report in world.seconds)
    assert peer.accepted == 4
    assert {(join.meas_id, join.token) for join in peer.joins} == {(7, b"\x0f" * 16)}


def test_no_byte_is_sent_twice(start_peer):
    seen = []

    def record(conn, cells):
        seen.extend(cells[:, 5:].tobytes()[at : at + 509] for at in range(0, 509 * len(cells), 509))
        return honest(conn, cells)

    with WorkerWorld() as world:
        world.open_built(start_peer(echo=record), (1, 2))
        world.begin((1, 2), rate_bytes=1_000_000.0)
        assert world.ended().reason is None
    assert len(seen) > 500
    assert len(set(seen)) == len(seen)


def skip_decryption(conn, cells):
    return cells.tobytes()


def replay(conn, cells):
    """Answers with the first answer over and over."""
    if not hasattr(conn, "first"):
        conn.first = decrypted(conn, cells)[:1]
        return conn.first.tobytes() + decrypted(conn, cells[1:]).tobytes()
    return np.repeat(conn.first, len(cells), axis=0).tobytes()


def invent(conn, cells):
    answer = honest(conn, cells)
    return answer + answer[-514:] * (1000 - len(cells) if len(cells) < 1000 else 1)


def wrong_in_one_of_three(conn, cells):
    out = decrypted(conn, cells)
    out[::3, 100] ^= 1
    return out.tobytes()


@pytest.mark.parametrize(
    ("cheat", "code"),
    [
        (skip_decryption, "ECHO_WRONG"),
        (replay, "ECHO_WRONG"),
        (wrong_in_one_of_three, "ECHO_WRONG"),
        (invent, "ECHO_INVENTED"),
    ],
)
def test_cheats_are_caught(start_peer, cheat, code):
    sampled = 100_000 if cheat is invent else 20  # what is invented is caught by its number alone
    with WorkerWorld() as world:
        world.open_built(start_peer(echo=cheat), bucket_cells=sampled)
        world.begin(dur_s=3)
        assert world.ended().reason == code


def test_echo_before_anything_was_sent(start_peer):
    def early(conn):
        conn.tls.sendall(encode_cell(Cell(conn.circ_id, Command.MEAS_ECHO, bytes(509))))

    with WorkerWorld() as world:
        world.open(start_peer(on_open=early))
        assert world.ended().reason == "ECHO_INVENTED"


def test_what_comes_after_the_last_checked_cell_is_checked_at_the_end(start_peer):
    """One bucket holds all: only its one cell and the last one are compared."""

    def rotten(conn, cells):
        out = decrypted(conn, cells)
        out[:, 5:] ^= 1
        return out.tobytes()

    with WorkerWorld() as world:
        world.open_built(start_peer(echo=rotten), bucket_cells=100_000)
        world.begin(rate_bytes=400_000.0)
        assert world.ended().reason == "ECHO_WRONG"
        assert world.seconds == []


def test_other_cells_between_the_echoes_are_harmless(start_peer):
    def chatty(conn, cells):
        if conn.echoed_cells > 2000:
            return honest(conn, cells)
        padding = encode_cell(Cell(0, Command.PADDING, b""))
        vpadding = encode_cell(Cell(0, Command.VPADDING, b"x" * 3))
        other = encode_cell(Cell(conn.circ_id + 1, Command.DESTROY, b"\x01"))
        unknown = encode_cell(Cell(conn.circ_id, 99, b"?"))
        answer = honest(conn, cells)
        return vpadding + answer[:514] + padding + other + answer[514:] + unknown + vpadding

    with WorkerWorld() as world:
        world.open_built(start_peer(echo=chatty))
        world.begin()
        assert world.ended().reason is None
    assert world.seconds[-1].recv_bytes > 0


def test_a_relay_that_keeps_the_worker_busy_with_other_cells_loses_the_circuit(start_peer):
    def busy(conn, cells):
        return honest(conn, cells) + encode_cell(Cell(0, Command.VPADDING, b"")) * 500

    with WorkerWorld() as world:
        world.open_built(start_peer(echo=busy))
        world.begin(dur_s=3)
        ended = world.until(is_ended_circuit)
    assert ended.reason == "RELAY_PROTOCOL"
    assert ended.detail.endswith("cells that are no echoes")


def test_a_relay_that_sends_cells_instead_of_a_circuit(start_peer):
    with WorkerWorld() as world:
        world.open(start_peer(on_create=lambda conn: conn.tls.sendall(PADDING * 1000)))
        assert "201 cells while a circuit was built" in (ended := world.until(is_ended_circuit)).detail
    assert ended.reason == "RELAY_PROTOCOL"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"fingerprint": "00" * 20}, "CERTS_INVALID"),
        ({"ed25519": "00" * 32}, "CERTS_INVALID"),
        ({"ntor": RelayKeys.generate().ntor_public.hex()}, "LINK_FAILED"),  # the peer closes
    ],
)
def test_no_token_for_a_relay_that_is_another(start_peer, change, code):
    peer = start_peer()
    with WorkerWorld() as world:
        world.open(peer, **change)
        assert world.until(is_ended_circuit).reason == code
    assert peer.joins == []


def test_no_token_for_a_relay_without_the_ntor_key(start_peer):
    """It owns the identities, and answers for an ntor key that it does not have."""
    peer = start_peer(ntor_private=RelayKeys.generate().ntor_private)
    with WorkerWorld() as world:
        world.open(peer)
        assert world.until(is_ended_circuit).reason == "NTOR_FAILED"
    assert peer.joins == []


@pytest.mark.parametrize("host", LOOPBACKS)
def test_nobody_listens(host):
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as closed:
        port = closed.getsockname()[1]
    with WorkerWorld() as world:
        world.open(_Nowhere(host, port))
        ended = world.until(is_ended_circuit)
        assert ended.reason == "LINK_FAILED"
        assert "ECONNREFUSED" in ended.detail


class _Nowhere:
    """Where no relay is."""

    def __init__(self, host, port):
        keys = RelayKeys.generate()
        self.address = type("Where", (), {"host": host, "port": port})
        self.fingerprint = "AA" * 20
        self.target = type("Keys", (), {"ed25519": bytes(32), "ntor": keys.ntor_public})


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b""]
)
def test_not_a_relay_at_all(greeting):
    with socket.create_server(("127.0.0.1", 0)) as listener, WorkerWorld() as world:

        def serve():
            sock, _ = listener.accept()
            with sock:
                sock.sendall(greeting)

        thread = threading.Thread(target=serve)
        thread.start()
        world.open(_Nowhere(*listener.getsockname()))
        assert world.until(is_ended_circuit).reason == "LINK_FAILED"
        thread.join()


def test_one_destroy_is_no_reason_to_give_up_but_two_are(start_peer):
    with WorkerWorld() as world:
        world.open_built(start_peer(refuse_creates=b"\x09"))
        world.open(start_peer(refuse_creates=b"\x09\x09"), (2,), run=2)
        assert world.until(is_ended_circuit).reason == "CIRCUIT_REFUSED"


def test_token_that_the_relay_does_not_know(start_peer):
    def refuse(conn):
        payload = MeasErr(MeasErrCode.BAD_TOKEN).encode()
        conn.tls.sendall(encode_cell(Cell(conn.circ_id, Command.MEASUREMENT, payload)))

    with WorkerWorld() as world:
        world.open(start_peer(on_open=refuse))
        assert world.until(is_ended_circuit).reason == "REFUSED_BAD_TOKEN"


def test_relay_that_closes_early(start_peer):
    def close_soon(conn, cells):
        if conn.echoed_cells > 200:
            conn.tls.close()
            raise OSError
        return honest(conn, cells)

    with WorkerWorld() as world:
        world.open_built(start_peer(echo=close_soon))
        world.begin(dur_s=3)
        assert world.until(is_ended_circuit).reason == "RELAY_CLOSED"
        assert world.ended().reason is None  # that too few are left is for the control process to say
    assert [report.second for report in world.seconds] == [1, 2, 3]


def test_relay_that_closes_in_the_last_second(start_peer):
    peer = start_peer()
    with WorkerWorld() as world:
        world.open_built(peer)
        world.begin(dur_s=2)
        world.until(lambda message: message in world.seconds)
        time.sleep(0.3)  # into the last second
        peer.close_connections()
        assert world.ended().reason is None
        assert not any(is_ended_circuit(message) for message in world.heard)
    assert world.seconds[-1].recv_bytes > 0


def test_halt_stops_at_once(start_peer):
    peer = start_peer()
    with WorkerWorld() as world:
        world.open_built(peer, (1, 2))
        world.begin((1, 2), dur_s=30)
        world.until(lambda message: message in world.seconds)
        world.halt()
        deadline_s = time.monotonic() + 5
        while any(thread.is_alive() for thread in peer._threads[1:]) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert not any(thread.is_alive() for thread in peer._threads[1:])


def test_circuits_that_the_begin_does_not_name_are_closed(start_peer):
    peer = start_peer()
    with WorkerWorld() as world:
        world.open_built(peer, (1, 2, 3))
        world.begin((2,))
        assert world.ended().reason is None
    assert [conn.echoed_cells > 0 for conn in peer.conns].count(True) == 1


def test_two_measurements_at_once(start_peer):
    with WorkerWorld() as world:
        world.open_built(start_peer())
        world.open_built(start_peer(), (2,), run=2)
        world.begin()
        world.begin((2,), run=2)
        world.ended()
        assert world.ended().reason is None
    assert sorted(report.run for report in world.seconds) == [1, 2]
    assert all(report.recv_bytes > 0 for report in world.seconds)
