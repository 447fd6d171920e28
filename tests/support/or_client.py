"""A blocking OR client on a plain socket: just enough I/O around flashflow.orlink to talk to a relay in a test."""

import os
import socket
import ssl
import time
from dataclasses import dataclass

from flashflow.orlink import extend, ntor
from flashflow.orlink.cells import Cell, CellReader, Command, encode_cell
from flashflow.orlink.link import InitiatorHandshake, OpenLink
from flashflow.orlink.relaycell import RelayCell, RelayCommand, sendme_data
from flashflow.orlink.relaycrypto import ClientHop, OnionCrypt

CIRC_ID = 0x80000001
STREAM_ID = 1
CIRCUIT_SENDME_EVERY = 100
STREAM_SENDME_EVERY = 50


@dataclass(frozen=True)
class Target:
    """Where a relay is and which keys it must have."""

    ip: str
    port: int
    rsa_fingerprint: bytes
    ed25519: bytes | None
    ntor_key: bytes


class OrClient:
    """One link to a relay and one circuit on it."""

    def __init__(self, target: Target, timeout_s: float = 10.0) -> None:
        self.target = target
        self._socket = connect_tls(target.ip, target.port, timeout_s)
        self.link = self._open_link()
        self.circuit = OnionCrypt()
        self._reader = CellReader()
        self._reader.feed(self.link.rest)
        self.data_cells = 0

    def _open_link(self) -> OpenLink:
        certificate = self._socket.getpeercert(binary_form=True)
        assert certificate is not None
        handshake = InitiatorHandshake(
            tls_certificate_der=certificate,
            expected_rsa=self.target.rsa_fingerprint,
            expected_ed25519=self.target.ed25519,
            peer_ip=self.target.ip,
            now_utc_s=time.time(),
        )
        self._socket.sendall(handshake.start())
        while handshake.open is None:
            self._socket.sendall(handshake.receive(self._read()))
        return handshake.open

    def close(self) -> None:
        self._socket.close()

    def send(self, command: int, payload: bytes, circ_id: int = CIRC_ID) -> None:
        self._socket.sendall(encode_cell(Cell(circ_id, command, payload)))

    def receive(self) -> Cell:
        while (cell := self._reader.next()) is None:
            self._reader.feed(self._read())
        return cell

    def expect(self, command: int) -> Cell:
        while (cell := self.receive()).command in (Command.PADDING, Command.VPADDING):
            pass
        assert cell.command == command, f"{Command(command).name} expected, got {cell}"
        return cell

    def create(self) -> None:
        state, onionskin = ntor.client_begin(
            self.target.rsa_fingerprint, self.target.ntor_key, os.urandom(32)
        )
        self.send(Command.CREATE2, extend.encode_create2(onionskin))
        reply = extend.parse_created2(self.expect(Command.CREATED2).payload)
        self.circuit.add(ClientHop(ntor.client_finish(state, reply)))

    def extend(self, to: Target) -> None:
        state, onionskin = ntor.client_begin(to.rsa_fingerprint, to.ntor_key, os.urandom(32))
        specifiers = extend.relay_specifiers(to.rsa_fingerprint, to.ed25519, [(to.ip, to.port)])
        request = extend.Extend2(specifiers, extend.HANDSHAKE_NTOR, onionskin)
        last = len(self.circuit.hops) - 1
        cell = RelayCell(RelayCommand.EXTEND2, 0, request.encode())
        self.send(Command.RELAY_EARLY, self.circuit.send(last, cell))
        hop, answer = self.receive_relay()
        assert (hop, answer.command) == (last, RelayCommand.EXTENDED2)
        self.circuit.add(ClientHop(ntor.client_finish(state, extend.parse_created2(answer.data))))

    def send_relay(self, command: int, data: bytes, stream_id: int = STREAM_ID) -> None:
        last = len(self.circuit.hops) - 1
        self.send(Command.RELAY, self.circuit.send(last, RelayCell(command, stream_id, data)))

    def receive_relay(self) -> tuple[int, RelayCell]:
        return self.circuit.receive(self.expect(Command.RELAY).payload)

    def get(self, path: str) -> tuple[int, bytes]:
        """HTTP status and body of a directory document, fetched over BEGIN_DIR."""
        self.send_relay(RelayCommand.BEGIN_DIR, b"")
        assert self.receive_relay()[1].command == RelayCommand.CONNECTED
        self.send_relay(RelayCommand.DATA, f"GET {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = self._read_stream().partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def _read_stream(self) -> bytes:
        data, cells = b"", 0
        while (cell := self.receive_relay()[1]).command in (RelayCommand.DATA, RelayCommand.SENDME):
            if cell.command == RelayCommand.SENDME:
                continue  # for our own DATA, of which we never send a window full
            data += cell.data
            cells += 1
            self.data_cells += 1
            if self.data_cells % CIRCUIT_SENDME_EVERY == 0:
                digest = self.circuit.hops[-1].backward.digest
                self.send_relay(RelayCommand.SENDME, sendme_data(digest), stream_id=0)
            if cells % STREAM_SENDME_EVERY == 0:
                self.send_relay(RelayCommand.SENDME, b"")
        assert cell.command == RelayCommand.END, cell
        return data

    def _read(self) -> bytes:
        data = self._socket.recv(65_536)
        assert data, "the relay closed the connection"
        return data


def connect_tls(ip: str, port: int, timeout_s: float) -> ssl.SSLSocket:
    """TLS without any check: the CERTS cell vouches for the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain = socket.create_connection((ip, port), timeout_s)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain)
