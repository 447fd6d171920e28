"""A small middle relay that cheats: `python middle_relay.py --cheat NAME [options of flashflow relay]`.

It does what loop mode asks of a stock tor: it takes circuits, extends them to a far end, to which it proves its identity,
and passes cells on under its own onion layer. It is slow, so that it needs no limit.
"""

import argparse
import contextlib
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from flashflow.model.ids import Address
from flashflow.orlink.bulk import Cells, as_cells, cell_header, empty_cells, payloads
from flashflow.orlink.cells import CELL_BYTES, PAYLOAD_BYTES, Cell, CellReader, Command, encode_cell
from flashflow.orlink.certs import CertType
from flashflow.orlink.certs_cell import parse_certs, verify_responder
from flashflow.orlink.extend import parse_created2, parse_extend2, specifier_address
from flashflow.orlink.keys import RelayKeys
from flashflow.orlink.relaycell import RelayCell, RelayCommand
from flashflow.relay.core.admission import AdmissionRules
from flashflow.relay.identity import load_or_make_keys, write_descriptor
from flashflow.relay.settings import RelaySettings
from flashflow.shell.parent import follow_parent
from support.echo_peer import Conn
from support.far_peer import FarPeer
from support.loop_peer import LoopPeer

FAR_CIRC_ID = 0x80000001
CELLS_A_SECOND = 2000
"""Each way, all circuits together: 16 Mbit/s of what a relay reads."""
HONEST_CELLS = 300
"""A cheat begins behind so many cells of a circuit."""
INVENTED_CELLS = 1000

Cheat = Callable[[Cells, int], Cells]
"""Cells on their way back, and how many went before on this circuit -> what is sent."""


def honest(cells: Cells, before: int) -> Cells:
    return cells


def change(cells: Cells, before: int) -> Cells:
    out = cells.copy()
    out[before + np.arange(len(cells)) >= HONEST_CELLS, 300] ^= 1
    return out


def drop(cells: Cells, before: int) -> Cells:
    """One cell only."""
    return cells[before + np.arange(len(cells)) != HONEST_CELLS]


def invent(cells: Cells, before: int) -> Cells:
    """Once, many more than can be on their way."""
    if not before < HONEST_CELLS <= before + len(cells):
        return cells
    return np.concatenate([cells, np.repeat(cells[-1:], INVENTED_CELLS, axis=0)])


CHEATS: dict[str, Cheat] = {"honest": honest, "change": change, "drop": drop, "invent": invent}


class FarLink(FarPeer):
    """A link to a far end of which only the address is known, and the circuit on it."""

    def __init__(self, address: Address, own: RelayKeys) -> None:
        super().__init__(address, own, own)  # `far` is put right by what it shows

    def _read_greeting(self) -> bytes:
        log = super()._read_greeting()
        reader = CellReader(circ_id_bytes=2)
        reader.feed(log)
        reader.next()
        reader.circ_id_bytes = 4
        payload = reader.next().payload
        key = x509.load_der_x509_certificate(parse_certs(payload)[CertType.RSA_IDENTITY]).public_key()
        der = self._tls.get_peer_certificate().to_cryptography().public_bytes(Encoding.DER)
        identity = verify_responder(payload, der, time.time()).identity
        self.far = SimpleNamespace(rsa_identity=SimpleNamespace(public_key=lambda: key), identity=identity)
        return log

    def pass_create(self, onionskin: bytes) -> bytes:
        """Makes the circuit with the client's handshake: the far end's."""
        self.send(Cell(FAR_CIRC_ID, Command.CREATE2, b"\0\2" + len(onionskin).to_bytes(2, "big") + onionskin))
        cell = self.receive()
        assert cell.command == Command.CREATED2, cell
        return parse_created2(cell.payload)


class MiddleRelay(LoopPeer):
    """Passes the cells of each circuit on, in a thread for each."""

    def __init__(self, certificate_file: Path, cheat: Cheat, **options) -> None:
        self._cheat = cheat
        self._free_s = 0.0
        super().__init__(certificate_file, **options)

    def _extend(self, conn: Conn, cell: Cell) -> None:
        _, request = conn.relay.receive(cell.payload)
        extend = parse_extend2(request.data)
        addresses = [specifier_address(one) for one in extend.specifiers]
        conn.far = FarLink(Address(*next(one for one in addresses if one)), self.keys)
        reply = conn.far.pass_create(extend.handshake)
        answer = RelayCell(RelayCommand.EXTENDED2, 0, len(reply).to_bytes(2, "big") + reply)
        conn.tls.sendall(encode_cell(Cell(conn.circ_id, Command.RELAY, conn.relay.send(answer))))

    def _echo_all(self, conn: Conn) -> None:
        with contextlib.closing(conn.far), contextlib.suppress(SSL.Error):
            self._pass_on(conn, *conn.far.link)

    def _pass_on(self, conn: Conn, far: SSL.Connection, far_socket) -> None:
        forth, back = Rest(conn.reader.rest()), Rest(b"")
        while True:
            if not conn.tls.pending() and not far.pending():
                select.select([conn.tls, far_socket], [], [])
            if conn.tls.pending() or select.select([conn.tls], [], [], 0)[0]:
                if not (data := conn.tls.recv(65_536)):
                    return
                if len(cells := forth.cells(data)):
                    self._limit(len(cells))
                    far.sendall(turned(cells, conn.relay.forward.cipher, FAR_CIRC_ID).tobytes())
            if far.pending() or select.select([far_socket], [], [], 0)[0]:
                cells = back.cells(far.recv(65_536))
                if len(cells):
                    out = self._cheat(
                        turned(cells, conn.relay.backward.cipher, conn.circ_id), conn.echoed_cells
                    )
                    conn.echoed_cells += len(cells)
                    conn.tls.sendall(out.tobytes())

    def _limit(self, cells: int) -> None:
        now_s = time.monotonic()
        self._free_s = max(self._free_s, now_s) + cells / CELLS_A_SECOND
        time.sleep(self._free_s - now_s)


class Rest:
    """Cuts a stream into relay cells; others are left out."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def cells(self, data: bytes) -> Cells:
        data = self._data + data
        whole = len(data) // CELL_BYTES * CELL_BYTES
        self._data = data[whole:]
        cells = as_cells(data[:whole])
        return cells[(cells[:, 4] == Command.RELAY) | (cells[:, 4] == Command.RELAY_EARLY)]


def turned(cells: Cells, cipher, circ_id: int) -> Cells:
    """The cells under one onion layer more or less, on another circuit."""
    out = empty_cells(len(cells), cell_header(circ_id, Command.RELAY))
    stream = np.frombuffer(cipher.crypt(np.ascontiguousarray(payloads(cells))), np.uint8)
    out[:, CELL_BYTES - PAYLOAD_BYTES :] = stream.reshape(len(cells), PAYLOAD_BYTES)
    return out


def command(cheat: str) -> list[str]:
    """The command line that starts this relay."""
    return [sys.executable, str(Path(__file__).resolve()), "--cheat", cheat]


def main(args: list[str]) -> None:
    follow_parent()
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for option in ("--cheat", "--data-dir", "--nickname"):
        parser.add_argument(option, required=True)
    options, _ = parser.parse_known_args(args)
    folder = Path(options.data_dir)
    keys = load_or_make_keys(folder)
    relay = MiddleRelay(folder / "link.pem", CHEATS[options.cheat], keys=keys)
    settings = RelaySettings(folder, options.nickname, (relay.address,), AdmissionRules(frozenset()))
    write_descriptor(settings, keys, (relay.address,), time.time())
    print(f"ready {relay.address} {relay.fingerprint}", flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(sys.argv[1:])
