import logging
import socket
import time
from collections.abc import Iterator

import pytest

from flashflow.relay.celllink import HANDSHAKE_S
from flashflow.relay.core.admission import AdmissionRules
from flashflow.relay.core.effects import Role
from flashflow.relay.server import RelayServer, read_rate
from flashflow.relay.settings import RelaySettings
from support.orlink_keys import relay_keys


class Bench:
    """A server whose links the test makes by hand."""

    def __init__(self, folder) -> None:
        settings = RelaySettings(folder, "relay", (), AdmissionRules(frozenset()))
        self.server = RelayServer(settings, relay_keys())
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.peers: list[socket.socket] = []

    def add(self) -> int:
        """A new link: its number."""
        peer = socket.create_connection(self.listener.getsockname())
        sock, name = self.listener.accept()
        self.peers.append(peer)
        self.server._add_link(sock, name[0])
        return len(self.peers)

    def alive(self) -> list[int]:
        return [number for number in range(1, len(self.peers) + 1) if self.server.find(number)]

    def close(self) -> None:
        self.server._close_all()
        for sock in (self.listener, *self.peers):
            sock.close()


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_one_link_too_many_costs_the_oldest_stranger(bench, monkeypatch) -> None:
    monkeypatch.setattr(RelayServer, "max_strangers", 2)
    measurer = bench.add()
    bench.server.find(measurer).role = Role.MEASURER
    first, second = bench.add(), bench.add()
    assert bench.alive() == [measurer, first, second]
    third = bench.add()
    assert bench.alive() == [measurer, second, third]
    assert bench.peers[first - 1].recv(1) == b""


def test_a_handshake_that_takes_too_long_ends_the_link(bench) -> None:
    bench.add()
    now_s = time.monotonic()
    bench.server._sweep(now_s + HANDSHAKE_S - 1)
    assert bench.alive() == [1]
    bench.server._sweep(now_s + HANDSHAKE_S + 1)
    assert bench.alive() == []
    assert bench.peers[0].recv(1) == b""


def test_a_link_is_closed_once(bench) -> None:
    number = bench.add()
    link = bench.server.find(number)
    bench.server.drop(link, "because")
    bench.server.drop(link, "again")
    assert bench.server._read(link, 1000) == 0
    assert bench.server._write(link, 1000) == 0
    assert bench.alive() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8", 1_000_000.0),
        (" 0.5\n", 62_500.0),
        ("", None),
        ("fast", None),
        ("0", None),
        ("nan", None),
        ("1e9", None),
    ],
)
def test_a_rate_file_holds_one_number(tmp_path, text, expected) -> None:
    path = tmp_path / "rate_mbps"
    path.write_text(text)
    assert read_rate(path) == expected


def test_no_rate_file(tmp_path) -> None:
    assert read_rate(tmp_path / "rate_mbps") is None


def test_links_that_become_strangers_again_are_not_worth_a_line(bench, caplog) -> None:
    link = bench.server.find(bench.add())
    with caplog.at_level(logging.INFO):
        bench.server.role_changed(link)
        link.role = Role.MEASURER
        bench.server.role_changed(link)
    assert [record.message for record in caplog.records] == ["link 1 from 127.0.0.1 is now measurer"]
