"""A blocking client of the reference relay: one TLS connection, as measurer or coordinator or neither."""

import os
import socket
import ssl
import tempfile
import time
from pathlib import Path

from flashflow.model.ids import Address
from flashflow.orlink import bulk, extend, ntor
from flashflow.orlink.cells import CELL_BYTES, Cell, CellReader, Command, encode_cell
from flashflow.orlink.keys import LinkCertificate
from flashflow.orlink.link import InitiatorHandshake
from flashflow.orlink.meas import MeasJoin, MeasParams, Measurement, MeasurerSpec, parse_measurement
from flashflow.orlink.relaycrypto import ClientHop

CIRC_ID = 0x80000001


class MiniClient:
    """A link to a relay whose identity is `fingerprint` (hex) and `ed25519`, and circuits on it."""

    def __init__(
        self,
        address: Address,
        fingerprint: str,
        ed25519: bytes,
        ntor_key: bytes,
        certificate: LinkCertificate | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        self.fingerprint = bytes.fromhex(fingerprint)
        self.ntor_key = ntor_key
        self.hops: dict[int, ClientHop] = {}
        self.socket = connect(address, certificate, timeout_s)
        der = self.socket.getpeercert(binary_form=True)
        assert der is not None
        handshake = InitiatorHandshake(
            tls_certificate_der=der,
            expected_rsa=self.fingerprint,
            expected_ed25519=ed25519,
            peer_ip=address.host,
            now_utc_s=time.time(),
        )
        self.socket.sendall(handshake.start())
        while handshake.open is None:
            self.socket.sendall(handshake.receive(self._recv()))
        self._reader = CellReader()
        self._reader.feed(handshake.open.rest)

    def create(self, circ_id: int = CIRC_ID) -> ClientHop:
        state, onionskin = ntor.client_begin(self.fingerprint, self.ntor_key, os.urandom(32))
        self.send(Command.CREATE2, extend.encode_create2(onionskin), circ_id)
        cell = self.receive()
        assert (cell.circ_id, cell.command) == (circ_id, Command.CREATED2), cell
        self.hops[circ_id] = ClientHop(ntor.client_finish(state, extend.parse_created2(cell.payload)))
        return self.hops[circ_id]

    def send(self, command: int, payload: bytes, circ_id: int = CIRC_ID) -> None:
        self.socket.sendall(encode_cell(Cell(circ_id, command, payload)))

    def send_measurement(self, message: Measurement, circ_id: int = CIRC_ID) -> None:
        self.send(Command.MEASUREMENT, message.encode(), circ_id)

    def start(self, params: MeasParams) -> Measurement:
        """Sends MEAS_PARAMS and gives the answer."""
        self.send_measurement(params)
        return self.receive_measurement()

    def join(self, meas_id: int, token: bytes) -> None:
        self.send_measurement(MeasJoin(meas_id, token))

    def send_run(self, payload: bytes, command: int = Command.MEAS_ECHO, circ_id: int = CIRC_ID) -> None:
        """Sends a contiguous payload of k * 509 bytes as k cells."""
        count = len(payload) // 509
        cells = bulk.empty_cells(count, bulk.cell_header(circ_id, command))
        self.socket.sendall(bulk.frame_cells(memoryview(payload), None, cells).tobytes())

    def receive_run(self, count: int) -> bytes:
        """The payloads of the next `count` cells."""
        return b"".join(self.receive().payload for _ in range(count))

    def receive(self) -> Cell:
        while (cell := self._reader.next()) is None:
            self._reader.feed(self._recv())
        return cell

    def receive_measurement(self) -> Measurement:
        cell = self.receive()
        assert cell.command == Command.MEASUREMENT, cell
        return parse_measurement(cell.payload)

    def at_end(self) -> bool:
        """Reads on until the other side closes: True; False if a cell comes first."""
        try:
            while data := self.socket.recv(CELL_BYTES):
                self._reader.feed(data)
                if self._reader.next() is not None:
                    return False
        except (ConnectionError, ssl.SSLError):
            pass
        return True

    def close(self) -> None:
        self.socket.close()

    def _recv(self) -> bytes:
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionResetError("the relay closed the connection")
        return data


def connect(address: Address, certificate: LinkCertificate | None, timeout_s: float) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "client.pem"
            path.write_text(certificate.pem)
            context.load_cert_chain(path)
    plain = socket.create_connection(tuple(address), timeout_s)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain)


def params(
    *tokens: bytes, meas_id: int = 7, duration_s: int = 1, sockets: int = 4, host: str = "0.0.0.0"
) -> MeasParams:
    """Parameters that a relay accepts, with one measurer for each token."""
    specs = tuple(MeasurerSpec(token, sockets, (host, 0)) for token in tokens)
    return MeasParams(1, meas_id, duration_s, specs)
