"""The far end of loop measurements: over sockets, with a peer of our own, and with real tor."""

import json
import os
import random
import signal
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flashflow.cli import main
from flashflow.model.ids import Address, Fingerprint, parse_address
from flashflow.orlink.cells import PAYLOAD_BYTES, Cell, Command
from flashflow.relay import farend
from flashflow.relay.farend import FarEndServer
from flashflow.relay.identities import encode_identities
from flashflow.shell.parent import child_environment, own_command
from support.far_peer import FarEndThread, FarPeer, fingerprint
from support.or_client import OrClient
from support.orlink_keys import relay_keys
from support.real_tor import RealTor, need_tor

HOSTS = ["127.0.0.1", "::1"]
CELLS = 2_000
WINDOW = 100
FIRST = 0x80000001


@pytest.mark.parametrize("host", HOSTS)
def test_cells_of_several_circuits_and_identities_come_back_through_both_layers(host: str) -> None:
    draw = random.Random(3)
    with FarEndThread(host, identities=2) as far:
        for identity in range(2):
            with closing(far.connect(identity, relay_keys(0))) as peer:
                circuits = [FIRST + number for number in range(4)]
                for circ_id in circuits:
                    peer.create(circ_id)
                for _ in range(CELLS // WINDOW):
                    sent = [
                        Cell(draw.choice(circuits), Command.RELAY, draw.randbytes(PAYLOAD_BYTES))
                        for _ in range(WINDOW)
                    ]
                    peer.send(*sent)
                    back = [peer.receive() for _ in sent]
                    for circ_id in circuits:
                        expected = [peer.looped(circ_id, c.payload) for c in sent if c.circ_id == circ_id]
                        assert [c.payload for c in back if c.circ_id == circ_id] == expected
                peer.send(Cell(FIRST, Command.DESTROY, b"\x09"))
                peer.create(FIRST)


@pytest.mark.parametrize("host", HOSTS)
def test_nobody_but_the_measured_relay_gets_in(host: str) -> None:
    with FarEndThread(host) as far:
        for own in (None, relay_keys(2)):
            with closing(far.connect(own=own)) as peer:
                assert peer.is_refused()
        with closing(far.connect(own=relay_keys(0))) as peer:
            peer.create(FIRST)


def test_links_are_bounded_for_the_unproven_and_for_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FarEndServer, "max_strangers", 2)
    monkeypatch.setattr(farend, "MAX_LINKS", 1)
    with FarEndThread("127.0.0.1") as far, closing(far.connect(own=relay_keys(0))) as first:
        first.create(FIRST)
        idle = [socket.create_connection(tuple(far.addresses[0])) for _ in range(3)]
        assert idle[0].recv(1) == b""  # its place was needed
        with closing(far.connect(own=relay_keys(0))) as second:
            assert second.is_refused()
        for sock in idle:
            sock.close()
        first.create(FIRST + 1)


@pytest.mark.parametrize("host", HOSTS)
def test_who_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(farend, "HANDSHAKE_S", 0.1)
    with FarEndThread(host) as far, closing(far.connect(own=relay_keys(0))) as peer:
        with socket.create_connection(tuple(far.addresses[0]), 10.0) as silent:
            assert silent.recv(1) == b""
        peer.create(FIRST)  # who has proven its identity may be silent


class Process:
    """`flashflow relay --far-end` with two identities."""

    def __init__(self, folder: Path, host: str) -> None:
        self.keys = [relay_keys(1), relay_keys(2)]
        path = folder / "identities"
        path.write_bytes(encode_identities(self.keys))
        listen = ["--listen", str(Address(host, 0)), "--identities", str(path)]
        self.process = subprocess.Popen(
            own_command("relay", "--far-end", "--only-peer", fingerprint(relay_keys(0)), *listen),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready "), self.process.communicate()
        self.listed: list[dict[str, Any]] = json.loads(line.removeprefix("ready "))

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=20)
        return self.process.returncode


@pytest.mark.parametrize(("host", "number"), [("127.0.0.1", signal.SIGTERM), ("::1", signal.SIGINT)])
def test_the_process_says_who_listens_where_and_ends_by_a_signal(
    tmp_path: Path, host: str, number: int
) -> None:
    far = Process(tmp_path, host)
    try:
        assert [entry["fingerprint"] for entry in far.listed] == [fingerprint(keys) for keys in far.keys]
        for entry, keys in zip(far.listed, far.keys, strict=True):
            address = parse_address(entry["addr"])
            assert address.host == host
            with closing(FarPeer(address, keys, relay_keys(0))) as peer:
                peer.create(FIRST)
    finally:
        assert far.stop(number) == 128 + number


PEER = ["--only-peer", "AB" * 20]


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--listen", "127.0.0.1:0", *PEER], 2, "Missing option '--identities'"),
        (["--listen", "127.0.0.1:0", "--identities", "x"], 2, "Missing option '--only-peer'"),
        (["--listen", "127.0.0.1:9", *PEER, "--identities", "x"], 2, "one address with port 0 expected"),
        (["--listen", "far.example:0", *PEER, "--identities", "x"], 2, "an IP address expected"),
        (["--listen", "127.0.0.1:0", *PEER, "--identities", "/nonexistent/x"], 1, "No such file"),
        (["--listen", "127.0.0.1:0", *PEER, "--identities", "/dev/null"], 1, "not the JSON"),
        (["--listen", "127.0.0.1:0", *PEER, "--rate-mbps", "3"], 2, "--rate-mbps: not an option of a far"),
        (["--listen", "127.0.0.1:0", "--only-peer", "AB", "--identities", "KEYS"], 2, "not a relay fing"),
        (["--listen", "192.0.2.1:0", *PEER, "--identities", "KEYS"], 1, "cannot listen on 192.0.2.1:0"),
    ],
)
def test_what_it_cannot_start_with_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], status: int, said: str
) -> None:
    (tmp_path / "keys").write_bytes(encode_identities([relay_keys(1)]))
    words = [str(tmp_path / "keys") if word == "KEYS" else word for word in options]
    assert main(["relay", "--far-end", *words]) == status
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("flashflow relay: ")
    assert said in err


@pytest.mark.net
@pytest.mark.parametrize("host", HOSTS)
def test_a_loop_through_tor_is_what_the_four_keystreams_say(tmp_path: Path, host: str) -> None:
    need_tor()
    with RealTor(tmp_path) as tor:
        target = tor.target()
        measured = Fingerprint(target.rsa_fingerprint.hex().upper())
        with (
            FarEndThread(host, identities=2, only_peer=measured) as far,
            closing(OrClient(target)) as first,
            closing(OrClient(target)) as second,
            closing(OrClient(target)) as third,
        ):
            for client, identity in ((first, 0), (second, 0), (third, 1)):
                client.create()
                client.extend(far.target(identity))
            for _ in range(
                10
            ):  # turn about, so that circuits are mixed on the way from tor to the first identity
                windows = [(client, send_window(client)) for client in (first, second, third)]
                for client, sent in windows:
                    back = b"".join(client.expect(Command.RELAY).payload for _ in range(WINDOW))
                    assert back == looped(client, sent)


def send_window(client: OrClient) -> bytes:
    """Sends random payloads as if they were encrypted already."""
    payloads = [os.urandom(PAYLOAD_BYTES) for _ in range(WINDOW)]
    for payload in payloads:
        client.send(Command.RELAY, payload)
    return b"".join(payloads)


def looped(client: OrClient, sent: bytes) -> bytes:
    """What has to come back: all four keystreams, each from where it is after EXTEND2 and EXTENDED2."""
    for hop in client.circuit.hops:
        sent = hop.backward.cipher.crypt(hop.forward.cipher.crypt(sent))
    return sent


@pytest.mark.net
def test_tor_with_another_identity_is_refused(tmp_path: Path) -> None:
    need_tor()
    with (
        RealTor(tmp_path) as tor,
        FarEndThread("127.0.0.1") as far,
        closing(OrClient(tor.target())) as client,
    ):
        client.create()
        with pytest.raises(AssertionError, match="RELAY expected, got"):
            client.extend(far.target())
