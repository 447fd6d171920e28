"""A far end in a thread, and a blocking peer of it: a relay that authenticates itself, or somebody who does not."""

import hashlib
import os
import socket
import threading
import time
from types import TracebackType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from OpenSSL import SSL

from flashflow.model.ids import Address, Fingerprint
from flashflow.orlink import extend, ntor
from flashflow.orlink.authenticate import EXPORTED_BYTES, EXPORTER_LABEL, AuthFacts, encode_authenticate
from flashflow.orlink.cells import Cell, CellReader, Command, encode_cell
from flashflow.orlink.certs import RsaIdentity
from flashflow.orlink.certs_cell import initiator_certs
from flashflow.orlink.keys import RelayKeys
from flashflow.orlink.netinfo import NetInfo
from flashflow.orlink.relaycrypto import AesCtr
from flashflow.relay.farend import FarEndServer
from support.or_client import Target
from support.orlink_keys import relay_keys

STOP_S = 10.0
VERSIONS = encode_cell(Cell(0, Command.VERSIONS, b"\x00\x05"), circ_id_bytes=2)
NETINFO = encode_cell(Cell(0, Command.NETINFO, NetInfo(0, "127.0.0.1", ()).encode()))


def fingerprint(keys: RelayKeys) -> Fingerprint:
    return Fingerprint(keys.identity.rsa_fingerprint.hex().upper())


class FarEndThread:
    """A far end with the identities `relay_keys(1)`, `relay_keys(2)` ..., for `relay_keys(0)` or `only_peer`."""

    def __init__(self, host: str, identities: int = 1, only_peer: Fingerprint | None = None) -> None:
        self.keys = [relay_keys(number) for number in range(1, identities + 1)]
        self.server = FarEndServer(self.keys, only_peer or fingerprint(relay_keys(0)))
        self.addresses = self.server.listen(host)
        self._thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> "FarEndThread":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.stop()
        self._thread.join(STOP_S)
        assert not self._thread.is_alive()

    def target(self, identity: int = 0) -> Target:
        """Where circuits are extended to."""
        keys, (host, port) = self.keys[identity], self.addresses[identity]
        return Target(host, port, keys.identity.rsa_fingerprint, keys.identity.ed25519, keys.ntor_public)

    def connect(self, identity: int = 0, own: RelayKeys | None = None) -> "FarPeer":
        """A link to one identity, from `own`."""
        return FarPeer(self.addresses[identity], self.keys[identity], own)


class FarPeer:
    """One link to one identity of a far end; `own` None does not authenticate."""

    def __init__(self, address: Address, far: RelayKeys, own: RelayKeys | None) -> None:
        self.far = far
        self._plain = socket.create_connection(tuple(address), STOP_S)
        self._plain.settimeout(None)  # pyOpenSSL would report a time-out as "want read"
        self._tls = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), self._plain)
        self._tls.set_connect_state()
        self._tls.do_handshake()
        self._reader = CellReader(circ_id_bytes=2)
        self.streams: dict[int, tuple[AesCtr, AesCtr]] = {}
        self._tls.sendall(VERSIONS)
        log = self._read_greeting()
        if own is not None:
            self._authenticate(own, log)
        self._tls.sendall(NETINFO)

    def _read_greeting(self) -> bytes:
        """What the far end sends before NETINFO."""
        versions = self.receive()
        self._reader.circ_id_bytes = 4
        certs, challenge = self.receive(), self.receive()
        assert self.receive().command == Command.NETINFO
        return encode_cell(versions, 2) + encode_cell(certs) + encode_cell(challenge)

    def _authenticate(self, own: RelayKeys, responder_log: bytes) -> None:
        key = Ed25519PrivateKey.generate()
        payload = initiator_certs(own, key.public_key().public_bytes_raw(), time.time())
        certs = encode_cell(Cell(0, Command.CERTS, payload))
        certificate = self._tls.get_peer_certificate()
        assert certificate is not None
        rsa = RsaIdentity(own.rsa_identity.public_key()).sha256
        facts = AuthFacts(
            initiator_rsa_sha256=rsa,
            responder_rsa_sha256=RsaIdentity(self.far.rsa_identity.public_key()).sha256,
            initiator_ed25519=own.identity.ed25519 or b"",
            responder_ed25519=self.far.identity.ed25519 or b"",
            responder_log=hashlib.sha256(responder_log).digest(),
            initiator_log=hashlib.sha256(VERSIONS + certs).digest(),
            tls_certificate_sha256=bytes.fromhex(certificate.digest("sha256").replace(b":", b"").decode()),
            tls_binding=self._tls.export_keying_material(EXPORTER_LABEL, EXPORTED_BYTES, rsa),
        )
        proof = encode_authenticate(facts, os.urandom(24), key.sign)
        self._tls.sendall(certs + encode_cell(Cell(0, Command.AUTHENTICATE, proof)))

    @property
    def link(self) -> tuple[SSL.Connection, socket.socket]:
        """TLS and the socket below, for whoever sends in bulk."""
        return self._tls, self._plain

    def send(self, *cells: Cell) -> None:
        self._tls.sendall(b"".join(encode_cell(cell) for cell in cells))

    def receive(self) -> Cell:
        """The next cell; SSL.Error if the far end closed."""
        while (cell := self._reader.next()) is None:
            self._reader.feed(self._tls.recv(65_536))
        return cell

    def create(self, circ_id: int) -> None:
        node_id = self.far.identity.rsa_fingerprint
        state, onionskin = ntor.client_begin(node_id, self.far.ntor_public, os.urandom(32))
        self.send(Cell(circ_id, Command.CREATE2, extend.encode_create2(onionskin)))
        cell = self.receive()
        assert (cell.circ_id, cell.command) == (circ_id, Command.CREATED2), cell
        keys = ntor.client_finish(state, extend.parse_created2(cell.payload))
        self.streams[circ_id] = AesCtr(keys.kf), AesCtr(keys.kb)

    def looped(self, circ_id: int, payload: bytes) -> bytes:
        """What has to come back for the next payload on a circuit."""
        forward, backward = self.streams[circ_id]
        return backward.crypt(forward.crypt(payload))

    def is_refused(self) -> bool:
        """Whether the far end closes without a cell."""
        try:
            self.receive()
        except (SSL.Error, OSError):
            return True
        return False

    def close(self) -> None:
        self._plain.close()
