"""A blocking OR relay for one connection, with pyOpenSSL: the responder's half of flashflow.orlink on a real socket."""

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

from OpenSSL import SSL

from flashflow.orlink import extend, ntor
from flashflow.orlink.cells import Cell, CellReader, Command, encode_cell
from flashflow.orlink.keys import LinkCertificate, RelayKeys
from flashflow.orlink.link import AuthSecrets, OpenLink, ResponderHandshake
from flashflow.orlink.relaycrypto import RelayHop
from support.or_client import Target


class OrServer:
    """Accepts one link, makes circuits on it, and sends each relay cell that it recognises back to the client."""

    def __init__(self, keys: RelayKeys, certificate: LinkCertificate, folder: Path, ip: str) -> None:
        self._keys = keys
        self._certificate = certificate
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        pem = folder / "link.pem"
        pem.write_text(certificate.pem)
        self._context.use_certificate_file(str(pem))
        self._context.use_privatekey_file(str(pem))
        self._listener = socket.create_server(
            (ip, 0), family=socket.AF_INET6 if ":" in ip else socket.AF_INET
        )
        self._listener.settimeout(20)
        self._hops: dict[int, RelayHop] = {}
        self.ip = ip
        self.link: OpenLink | None = None
        self._error: Exception | None = None
        self._plain: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def target(self) -> Target:
        identity = self._keys.identity
        port = self._listener.getsockname()[1]
        return Target(self.ip, port, identity.rsa_fingerprint, identity.ed25519, self._keys.ntor_public)

    def close(self) -> None:
        """Ends the link and the thread; raises what went wrong on this side."""
        if self._plain is not None:
            with contextlib.suppress(OSError):  # the peer was first
                self._plain.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._serve()
        except (SSL.ZeroReturnError, SSL.SysCallError):
            pass  # the link ended
        except Exception as exc:  # noqa: BLE001 (raised again by close)
            self._error = exc

    def _serve(self) -> None:
        plain, (peer_ip, *_) = self._listener.accept()
        self._plain = plain
        plain.settimeout(None)  # pyOpenSSL would report a time-out as "want read"
        connection = SSL.Connection(self._context, plain)
        connection.set_accept_state()
        connection.do_handshake()
        handshake = ResponderHandshake(
            keys=self._keys,
            link_certificate_der=self._certificate.certificate_der,
            peer_ip=peer_ip,
            own_ips=(self.ip,),
            auth_challenge=os.urandom(32),
            now_utc_s=time.time(),
            tls_secrets=AuthSecrets(
                lambda label, context, size: connection.export_keying_material(label, size, context)
            ),
        )
        while handshake.open is None:
            answer = handshake.receive(connection.recv(65_536))
            if answer:
                connection.sendall(answer)
        self.link = handshake.open
        self._answer_cells(connection, handshake.open.rest)

    def _answer_cells(self, connection: SSL.Connection, data: bytes) -> None:
        reader = CellReader()
        while True:
            reader.feed(data)
            while (cell := reader.next()) is not None:
                answer = self._answer(cell)
                if answer is not None:
                    connection.sendall(encode_cell(answer))
            data = connection.recv(65_536)

    def _answer(self, cell: Cell) -> Cell | None:
        if cell.command == Command.CREATE2:
            _, onionskin = extend.parse_create2(cell.payload)
            node_id = self._keys.identity.rsa_fingerprint
            reply, keys = ntor.server_reply(node_id, self._keys.ntor_private, onionskin, os.urandom(32))
            self._hops[cell.circ_id] = RelayHop(keys)
            return Cell(cell.circ_id, Command.CREATED2, extend.encode_created2(reply))
        if cell.command in (Command.RELAY, Command.RELAY_EARLY):
            hop = self._hops[cell.circ_id]
            _, relay_cell = hop.receive(cell.payload)
            assert relay_cell is not None
            return Cell(cell.circ_id, Command.RELAY, hop.send(relay_cell))
        return None
