"""Keeps a relay busy: RELAY cells on circuits of its own links, which a relay with `--loop` sends back.

`python -m flashflow.testnet.background --relay ADDR --fingerprint HEX --ed25519 KEY --ntor KEY --mbps X --seconds S`
ends with one JSON line: what was sent and what came back. A link that breaks is made anew.
"""

import json
import os
import select
import socket
import ssl
import time
from base64 import b64decode
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from flashflow.model.errors import FlashFlowError, NetworkError, UsageError
from flashflow.model.ids import Address, parse_address, parse_fingerprint
from flashflow.model.units import from_mbps
from flashflow.orlink import bulk, extend, ntor
from flashflow.orlink.cells import CELL_BYTES, PAYLOAD_BYTES, Cell, CellReader, Command, encode_cell
from flashflow.orlink.link import InitiatorHandshake
from flashflow.relay.core.bucket import TokenBucket
from flashflow.shell.parent import follow_parent

CIRC_ID: Final = 0x80000001
RUN_CELLS: Final = 64
CONNECT_S: Final = 10.0
RETRY_S: Final = 0.5
BURST_S: Final = 0.25
"""A late wake-up is made up for: this client asks for a rate, it does not limit one."""
WINDOW_S: Final = 0.25
"""Data on their way on one link, in seconds of its rate."""
MIN_WINDOW_BYTES: Final = 16 * CELL_BYTES
POLL_S: Final = 0.005
READ_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Target:
    """The relay."""

    address: Address
    """Where it listens."""
    fingerprint: bytes
    """RSA identity digest, 20 bytes."""
    ed25519: bytes
    """Master identity, 32 bytes."""
    ntor_key: bytes
    """Onion key, 32 bytes."""


class BusyLink:
    """One link with one circuit, on which bytes of cells go out and come back."""

    def __init__(self, target: Target) -> None:
        """Connects and makes the circuit, blocking. NetworkError or PeerError."""
        try:
            self._socket = _connect(target)
            self._make_circuit(target, self._open_link(target))
            self._socket.setblocking(False)  # noqa: FBT003 - the standard library's own signature
        except OSError as exc:
            raise NetworkError(f"relay {target.address}: {exc}") from exc
        cells = bulk.empty_cells(RUN_CELLS, bulk.cell_header(CIRC_ID, Command.RELAY))
        bulk.frame_cells(memoryview(os.urandom(RUN_CELLS * PAYLOAD_BYTES)), None, cells)
        # Twice, so that a run may begin anywhere. The relay's keystream makes each repetition look different to it.
        self._run = memoryview(cells.tobytes() * 2)
        self._at = 0
        self._unfinished = 0
        self._room = bytearray(READ_BYTES)
        self.sent_bytes = 0
        self.received_bytes = 0

    def fileno(self) -> int:
        """For poll."""
        return self._socket.fileno()

    def send(self, limit_bytes: int) -> int:
        """Sends up to `limit_bytes`: how many. NetworkError."""
        size = min(max(limit_bytes, self._unfinished), len(self._run) // 2)
        if size <= 0:
            return 0
        try:
            sent = self._socket.send(self._run[self._at : self._at + size])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self._unfinished = size
            return 0
        except OSError as exc:
            raise NetworkError(f"sending: {exc}") from exc
        self._unfinished = 0
        self._at = (self._at + sent) % (len(self._run) // 2)
        self.sent_bytes += sent
        return sent

    def receive(self) -> None:
        """Takes what has come back. NetworkError if the link has ended."""
        try:
            while count := self._socket.recv_into(self._room):
                self.received_bytes += count
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as exc:
            raise NetworkError(f"receiving: {exc}") from exc
        raise NetworkError("the relay closed the link")

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def _open_link(self, target: Target) -> bytes:
        certificate = self._socket.getpeercert(binary_form=True)
        handshake = InitiatorHandshake(
            tls_certificate_der=certificate or b"",
            expected_rsa=target.fingerprint,
            expected_ed25519=target.ed25519,
            peer_ip=target.address.host,
            now_utc_s=time.time(),
        )
        self._socket.sendall(handshake.start())
        while handshake.open is None:
            self._socket.sendall(handshake.receive(self._recv()))
        return handshake.open.rest

    def _make_circuit(self, target: Target, rest: bytes) -> None:
        """No key is kept: to the relay, all that is sent here is for somebody further along the circuit."""
        state, onionskin = ntor.client_begin(target.fingerprint, target.ntor_key, os.urandom(32))
        self._socket.sendall(encode_cell(Cell(CIRC_ID, Command.CREATE2, extend.encode_create2(onionskin))))
        reader = CellReader()
        reader.feed(rest)
        while (cell := reader.next()) is None or cell.command != Command.CREATED2:
            if cell is None:
                reader.feed(self._recv())
        ntor.client_finish(state, extend.parse_created2(cell.payload))

    def _recv(self) -> bytes:
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise NetworkError("the relay closed the link")
        return data


def keep_busy(target: Target, rate_bytes: int, seconds: float, n_links: int) -> tuple[int, int]:
    """Sends at `rate_bytes` over `n_links` links for that long: bytes sent and bytes that came back.

    NetworkError or PeerError if the relay cannot be reached at the end of that time.
    """
    end_s = time.monotonic() + seconds
    bucket = TokenBucket(rate_bytes, time.monotonic(), BURST_S)
    sent = received = 0
    while True:
        links: list[BusyLink] = []
        try:
            links.extend(BusyLink(target) for _ in range(n_links))
            _pump(links, bucket, max(MIN_WINDOW_BYTES, int(rate_bytes / n_links * WINDOW_S)), end_s)
        except FlashFlowError:
            if time.monotonic() + RETRY_S >= end_s:
                raise
            time.sleep(RETRY_S)
        finally:
            sent += sum(link.sent_bytes for link in links)
            received += sum(link.received_bytes for link in links)
            for link in links:
                link.close()
        if time.monotonic() >= end_s:
            return sent, received


def _pump(links: list[BusyLink], bucket: TokenBucket, window_bytes: int, end_s: float) -> None:
    poll = select.poll()
    for link in links:
        poll.register(link.fileno(), select.POLLIN)
    while (now_s := time.monotonic()) < end_s:
        for link in links:
            link.receive()
            room = window_bytes - (link.sent_bytes - link.received_bytes)
            bucket.take(link.send(min(room, bucket.available(now_s) // len(links))))
        wait_s = min(POLL_S, end_s - now_s)
        time.sleep(wait_s / 2)  # answers come all the time: to wake for each would cost more than it gives
        poll.poll(wait_s * 500)


def _connect(target: Target) -> ssl.SSLSocket:
    """TLS without any check: the CERTS cell vouches for the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain = socket.create_connection((target.address.host, target.address.port), CONNECT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain)


def parse_key(text: str) -> bytes:
    """A key of 32 bytes in hex or base64. UsageError."""
    try:
        key = (
            bytes.fromhex(text)
            if len(text) == 64
            else b64decode(text + "=" * (-len(text) % 4), validate=True)
        )
    except ValueError:
        key = b""
    if len(key) != 32:
        raise UsageError(f"not a key: {text[:80]!r} (32 bytes in hex or base64 expected)")
    return key


def main(
    relay: Annotated[str, typer.Option(help="Where the relay listens.")],
    fingerprint: Annotated[str, typer.Option(help="Its RSA fingerprint.")],
    ed25519: Annotated[str, typer.Option(help="Its master key, hex or base64.")],
    ntor: Annotated[str, typer.Option(help="Its onion key, hex or base64.")],
    mbps: Annotated[float, typer.Option(help="Mbit/s to ask for.")],
    seconds: Annotated[float, typer.Option(help="For how long.")],
    links: Annotated[int, typer.Option(help="Over how many links.", min=1, max=16)] = 2,
) -> None:
    """Keep a relay busy with background traffic."""
    follow_parent()
    try:
        target = Target(
            parse_address(relay),
            bytes.fromhex(parse_fingerprint(fingerprint)),
            parse_key(ed25519),
            parse_key(ntor),
        )
        sent, received = keep_busy(target, from_mbps(mbps), seconds, links)
    except FlashFlowError as error:
        typer.echo(f"background: {error.reason}", err=True)
        raise typer.Exit(error.exit_status) from None
    typer.echo(json.dumps({"sent_bytes": sent, "received_bytes": received, "seconds": seconds}))


if __name__ == "__main__":
    typer.run(main)
