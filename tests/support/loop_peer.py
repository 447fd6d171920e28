"""A relay that extends circuits to a far end, and that far end, in one: what torclient's loop mode is tested with."""

import secrets

import numpy as np

from flashflow.model.ids import Fingerprint
from flashflow.orlink.bulk import HEADER_BYTES
from flashflow.orlink.cells import Cell, Command, encode_cell
from flashflow.orlink.extend import Extend2, encode_created2, parse_create2, parse_extend2, relay_specifiers
from flashflow.orlink.keys import RelayKeys
from flashflow.orlink.ntor import server_reply
from flashflow.orlink.relaycell import RelayCell, RelayCommand
from flashflow.orlink.relaycrypto import RelayHop
from flashflow.torctl.commands import FarEnd
from support.echo_peer import Cells, Conn, EchoPeer


def looped(conn: Conn, cells: Cells) -> Cells:
    """The cells as they come back through the relay and an honest far end."""
    out = cells.copy()
    stream = np.ascontiguousarray(cells[:, HEADER_BYTES:]).reshape(-1)
    for cipher in (conn.relay.forward, conn.far.forward, conn.far.backward, conn.relay.backward):
        stream = np.frombuffer(cipher.cipher.crypt(stream), np.uint8)
    out[:, HEADER_BYTES:] = stream.reshape(len(cells), -1)
    return out


def honest_loop(conn: Conn, cells: Cells) -> bytes:
    """What relay and far end do."""
    return looped(conn, cells).tobytes()


class LoopPeer(EchoPeer):
    """Extends circuits to `far_end`, whose keys it has. `answer` makes the relay cell that answers EXTEND2, or None."""

    def __init__(self, *args, far_keys: RelayKeys | None = None, answer=None, **options) -> None:
        self.far_keys = far_keys or RelayKeys.generate()
        self.asked: list[Extend2] = []
        self._answer = answer or (lambda conn, handshake: RelayCell(RelayCommand.EXTENDED2, 0, handshake))
        super().__init__(*args, **{"echo": honest_loop, **options})

    @property
    def far_end(self) -> FarEnd:
        """How the far end is named to a measurer."""
        identity = self.far_keys.identity
        fingerprint = Fingerprint(identity.rsa_fingerprint.hex().upper())
        return FarEnd(self.address, fingerprint, identity.ed25519, self.far_keys.ntor_public)

    @property
    def specifiers(self):
        """The link specifiers that have to be in EXTEND2."""
        identity = self.far_keys.identity
        return relay_specifiers(identity.rsa_fingerprint, identity.ed25519, [tuple(self.address)])

    def _serve(self, conn: Conn) -> None:
        self._handshake(conn)
        while (cell := self._cell(conn)) is not None:
            if cell.command == Command.CREATE2:
                self._create_hop(conn, cell)
            elif cell.command == Command.RELAY_EARLY:
                self._extend(conn, cell)
                self.conns.append(conn)
                self._on_open(conn)
                self._echo_all(conn)
                return

    def _create_hop(self, conn: Conn, cell: Cell) -> None:
        _, onionskin = parse_create2(cell.payload)
        if self._refuses(conn, cell):
            return
        rsa = self.keys.identity.rsa_fingerprint
        reply, keys = server_reply(rsa, self.keys.ntor_private, onionskin, secrets.token_bytes(32))
        conn.circ_id, conn.relay = cell.circ_id, RelayHop(keys)
        conn.tls.sendall(encode_cell(Cell(cell.circ_id, Command.CREATED2, encode_created2(reply))))

    def _extend(self, conn: Conn, cell: Cell) -> None:
        _, request = conn.relay.receive(cell.payload)
        assert request.command == RelayCommand.EXTEND2
        extend = parse_extend2(request.data)
        self.asked.append(extend)
        rsa = self.far_keys.identity.rsa_fingerprint
        reply, keys = server_reply(rsa, self.far_keys.ntor_private, extend.handshake, secrets.token_bytes(32))
        conn.far = RelayHop(keys)
        answer = self._answer(conn, encode_created2(reply))
        if isinstance(answer, RelayCell):
            answer = encode_cell(Cell(conn.circ_id, Command.RELAY, conn.relay.send(answer)))
        conn.tls.sendall(answer)
