"""A small relay that echoes, honestly or not, in threads: the far side of torclient's tests and of its benchmark."""

import contextlib
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flashflow.model.errors import PeerError
from flashflow.model.ids import Address
from flashflow.orlink.bulk import HEADER_BYTES, as_cells
from flashflow.orlink.cells import Cell, CellReader, Command, encode_cell
from flashflow.orlink.extend import encode_created2, parse_create2
from flashflow.orlink.keys import LinkCertificate, RelayKeys, make_link_certificate
from flashflow.orlink.link import ResponderHandshake
from flashflow.orlink.meas import MeasJoin, parse_measurement
from flashflow.orlink.ntor import public_key, server_reply
from flashflow.orlink.relaycrypto import AesCtr
from flashflow.torctl.commands import Target

Cells = NDArray[np.uint8]


class Conn:
    """One connection of a measurer."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self.tls = tls
        self.reader = CellReader()
        self.circ_id = 0
        self.cipher = AesCtr(bytes(16))
        self.echoed_cells = 0
        """Cells sent back so far."""


Echo = Callable[[Conn, Cells], bytes]
"""Echo cells that came (k, 514) -> what to send."""


def decrypted(conn: Conn, cells: Cells) -> Cells:
    """The cells with their payloads decrypted, as an honest relay sends them back."""
    out = cells.copy()
    plain = conn.cipher.crypt(np.ascontiguousarray(cells[:, HEADER_BYTES:]).reshape(-1))
    out[:, HEADER_BYTES:] = np.frombuffer(plain, np.uint8).reshape(len(cells), -1)
    return out


def honest(conn: Conn, cells: Cells) -> bytes:
    """What a relay does."""
    return decrypted(conn, cells).tobytes()


class EchoPeer:
    """Listens until closed; a context manager.

    `refuse_creates` has a DESTROY reason for each of the first CREATE2. `on_open` is called once a circuit has joined, the others when MEAS_PARAMS, or CREATE2, came.
    """

    def __init__(
        self,
        certificate_file: Path,
        *,
        host: str = "127.0.0.1",
        echo: Echo = honest,
        keys: RelayKeys | None = None,
        on_open: Callable[[Conn], None] = lambda conn: None,
        on_params: Callable[[Conn], None] = lambda conn: None,
        on_create: Callable[[Conn], None] = lambda conn: None,
        refuse_creates: bytes = b"",
        ntor_private: bytes | None = None,
    ) -> None:
        self.keys = keys or RelayKeys.generate()
        self.joins: list[MeasJoin] = []
        self.accepted = 0
        self.conns: list[Conn] = []
        self._refuse_creates = refuse_creates
        self._ntor_private = ntor_private or self.keys.ntor_private
        self._echo = echo
        self._on_open = on_open
        self._on_params = on_params
        self._on_create = on_create
        now_s = time.time()
        self._certificate: LinkCertificate = make_link_certificate(now_s - 86_400, now_s + 86_400)
        certificate_file.write_text(self._certificate.pem, encoding="ascii")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate_file)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=256)
        self.address = Address(host, self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def target(self) -> Target:
        """How a measurer finds it."""
        return Target(self.address, self.keys.identity.ed25519 or b"", self.keys.ntor_public)

    @property
    def fingerprint(self) -> str:
        """Its RSA identity."""
        return self.keys.identity.rsa_fingerprint.hex().upper()

    def __enter__(self) -> "EchoPeer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes everything and waits for the threads."""
        self._listener.close()
        self.close_connections()
        for thread in self._threads[1:]:
            thread.join(5)

    def close_connections(self) -> None:
        """Closes all connections as a relay does that ends a measurement."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            thread = threading.Thread(target=self._serve_quietly, args=(sock,), daemon=True)
            self._sockets.append(sock)
            self._threads.append(thread)
            thread.start()

    def _serve_quietly(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, PeerError), sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._context.wrap_socket(sock, server_side=True) as tls:
                self._sockets.append(tls)
                self._serve(Conn(tls))

    def _serve(self, conn: Conn) -> None:
        self._handshake(conn)
        while (cell := self._cell(conn)) is not None:
            if cell.command == Command.CREATE2:
                self._on_create(conn)
                self._create(conn, cell)
            elif cell.command == Command.MEASUREMENT:
                message = parse_measurement(cell.payload)
                if isinstance(message, MeasJoin):
                    break
                self._on_params(conn)
        if cell is None:
            return
        self.joins.append(message)
        self.conns.append(conn)
        self._on_open(conn)
        self._echo_all(conn)

    def _handshake(self, conn: Conn) -> None:
        handshake = ResponderHandshake(
            keys=self.keys,
            link_certificate_der=self._certificate.certificate_der,
            peer_ip=conn.tls.getpeername()[0],
            own_ips=(self.address.host,),
            auth_challenge=secrets.token_bytes(32),
            now_utc_s=time.time(),
        )
        while handshake.open is None:
            if not (data := conn.tls.recv(16_384)):
                raise ConnectionResetError
            conn.tls.sendall(handshake.receive(data))
        conn.reader.feed(handshake.open.rest)

    def _cell(self, conn: Conn) -> Cell | None:
        while (cell := conn.reader.next()) is None:
            if not (data := conn.tls.recv(16_384)):
                return None
            conn.reader.feed(data)
        return cell

    def _refuses(self, conn: Conn, cell: Cell) -> bool:
        reason, self._refuse_creates = self._refuse_creates[:1], self._refuse_creates[1:]
        if reason:
            conn.tls.sendall(encode_cell(Cell(cell.circ_id, Command.DESTROY, reason)))
        return bool(reason)

    def _create(self, conn: Conn, cell: Cell) -> None:
        if self._refuses(conn, cell):
            return
        _, onionskin = parse_create2(cell.payload)
        rsa = self.keys.identity.rsa_fingerprint
        if self._ntor_private != self.keys.ntor_private:  # an impostor does not mind
            onionskin = onionskin[:20] + public_key(self._ntor_private) + onionskin[52:]
        reply, keys = server_reply(rsa, self._ntor_private, onionskin, secrets.token_bytes(32))
        conn.circ_id, conn.cipher = cell.circ_id, AesCtr(keys.kf)
        conn.tls.sendall(encode_cell(Cell(cell.circ_id, Command.CREATED2, encode_created2(reply))))

    def _echo_all(self, conn: Conn) -> None:
        buffer = bytearray(1 << 18)
        view = memoryview(buffer)
        rest = conn.reader.rest()
        view[: len(rest)] = rest
        have = len(rest)
        while True:
            count = conn.tls.recv_into(view[have:])
            if count == 0:
                return
            have += count
            conn.tls.settimeout(0)  # whatever else is there, so that the answer goes out in whole records
            with contextlib.suppress(ssl.SSLWantReadError):
                while have < len(buffer) - 32_768 and count:
                    count = conn.tls.recv_into(view[have:])
                    have += count
            conn.tls.settimeout(None)
            cells = as_cells(view[:have])
            if len(cells):
                answer = self._echo(conn, cells)
                conn.echoed_cells += len(answer) // 514
                conn.tls.sendall(answer)
                view[: have - len(cells) * 514] = bytes(view[len(cells) * 514 : have])
                have -= len(cells) * 514
