"""One connection to a relay, from connect() to a circuit with keys, which in loop mode goes on to a far end.

No secret of the measurement goes out before the relay has proven its identities (CERTS) and its ntor key.
"""

import errno
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from flashflow.model.errors import FlashFlowError, NetworkError, PeerError
from flashflow.orlink.cells import Cell, CellReader, Command, encode_cell
from flashflow.orlink.certs import CertError
from flashflow.orlink.extend import encode_create2, parse_created2
from flashflow.orlink.link import InitiatorHandshake
from flashflow.orlink.ntor import NtorClientState, NtorError, client_begin, client_finish
from flashflow.torclient.core.passage import Extension, ExtensionError, Layer, echo_passage
from flashflow.torclient.workers.tls import RECEIVE_BYTES, TlsStream
from flashflow.torctl.commands import FarEnd
from flashflow.torctl.reasons import Reason

FIRST_CIRC_ID: Final = 0x80000001
"""The initiator's circuit ids have their top bit set (tor-spec 5.1.1)."""
CREATE_ATTEMPTS: Final = 2
"""Relays refuse one CREATE2 in hundreds for no reason, stock tor by DESTROY 9: it is sent once more, but in loop mode not to
those that have a reason, for they may defend themselves."""
_NO_REASON: Final = 9

MOST_CELLS: Final = 200
"""Cells that may come while a circuit is built, those that are none of it included."""


@dataclass(frozen=True, slots=True)
class RelayTarget:
    """A relay and how to know it."""

    host: str
    """IP address."""
    port: int
    """OR port."""
    rsa: bytes
    """Fingerprint of its RSA identity, 20 bytes."""
    ed25519: bytes
    """Its ed25519 identity, 32 bytes."""
    ntor: bytes
    """Its ntor onion key, 32 bytes."""


@dataclass(frozen=True, slots=True)
class OpenCircuit:
    """What a link has become."""

    passage: tuple[Layer, ...] = field(repr=False)
    """Layers that what is sent on its circuit has passed when it is back."""
    circ_id: int
    """The circuit's id on the link."""
    round_trip_s: float
    """From CREATE2 to CREATED2, or from EXTEND2 to EXTENDED2."""
    rest: bytes
    """Bytes that came behind that."""


class LostLinkError(FlashFlowError):
    """A link failed, with the Reason that the controller is told."""

    def __init__(self, code: Reason, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class _Phase(Enum):
    CONNECT = auto()
    TLS = auto()
    HANDSHAKE = auto()
    CREATE = auto()
    EXTEND = auto()
    OPEN = auto()


class Link:
    """A connection and its one circuit, to `far_end` if there is one; `circuit` is set once it is open."""

    def __init__(
        self,
        target: RelayTarget,
        context: ssl.SSLContext,
        scratch: memoryview,
        far_end: FarEnd | None = None,
        repeats: Callable[[], None] = lambda: None,
    ) -> None:
        """`repeats` is called when the circuit is asked for once more."""
        self._target = target
        self._far_end = far_end
        self._repeats = repeats
        self._extension: Extension | None = None
        self._scratch = scratch
        self.circuit: OpenCircuit | None = None
        self._phase = _Phase.CONNECT
        self._handshake: InitiatorHandshake | None = None
        self._ntor: NtorClientState | None = None
        self._reader = CellReader()
        self._cells = 0
        self._circ_id = FIRST_CIRC_ID
        self._last_circ_id = FIRST_CIRC_ID + CREATE_ATTEMPTS - 1
        self._asked_at_s = 0.0
        self.stream = TlsStream(_connect(target), context)

    @property
    def wants_write(self) -> bool:
        """Whether to wait for the socket to be writable."""
        return self._phase is _Phase.CONNECT or self.stream.blocked

    def advance(self) -> OpenCircuit | None:
        """The socket is ready while the circuit is not: goes on; gives it once it is. LostLinkError if it is over."""
        try:
            if self._phase is _Phase.CONNECT:
                self._check_connected()
            else:
                self.stream.fill(self._scratch)
            _STEPS[self._phase](self)
            self.stream.flush()
        except LostLinkError:
            raise
        except ExtensionError as exc:
            raise LostLinkError(exc.code, self._named(exc.reason)) from exc
        except FlashFlowError as exc:
            raise LostLinkError(_reason_of(exc), self._named(exc.reason)) from exc
        return self.circuit

    def close(self) -> None:
        """Closes the connection at once."""
        self.stream.close()

    def send_cell(self, command: int, payload: bytes) -> None:
        """Sends one cell on the circuit."""
        self.stream.write(encode_cell(Cell(self._circ_id, command, payload)))
        self.stream.flush()

    def _named(self, text: str) -> str:
        return f"relay {self._target.host} port {self._target.port}: {text}"

    def _check_connected(self) -> None:
        error = self.stream.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise NetworkError(f"connect: {errno.errorcode.get(error, str(error))}")
        self._phase = _Phase.TLS

    def _tls(self) -> None:
        if self.stream.handshake():
            self._handshake = InitiatorHandshake(
                tls_certificate_der=self.stream.peer_certificate(),
                expected_rsa=self._target.rsa,
                expected_ed25519=self._target.ed25519,
                peer_ip=self._target.host,
                now_utc_s=time.time(),
            )
            self.stream.write(self._handshake.start())
            self._phase = _Phase.HANDSHAKE
            self._link_handshake()
        elif self.stream.closed:
            raise NetworkError("closed during the TLS handshake")

    def _link_handshake(self) -> None:
        handshake = self._handshake
        assert handshake is not None  # the phase table: set before this phase is entered
        while handshake.open is None and (data := self._read()):
            self.stream.write(handshake.receive(data))
        if handshake.open is not None:
            self._reader.feed(handshake.open.rest)
            self._phase = _Phase.CREATE
            self._send_create()
        elif self.stream.closed:
            raise NetworkError(f"closed while {handshake.waits_for} was expected")

    def _send_create(self) -> None:
        self._ntor, onionskin = client_begin(self._target.rsa, self._target.ntor, secrets.token_bytes(32))
        self.stream.write(encode_cell(Cell(self._circ_id, Command.CREATE2, encode_create2(onionskin))))
        self._asked_at_s = time.monotonic()

    def _take_cells(self) -> None:
        while self.circuit is None:
            cell = self._reader.next()
            if cell is not None:
                self._count_cell()
                if cell.circ_id == self._circ_id:
                    _ANSWERS[self._phase](self, cell)
            elif data := self._read():
                self._reader.feed(data)
            else:
                break
        if self.circuit is None and self.stream.closed:
            expected = "CREATED2" if self._phase is _Phase.CREATE else "EXTENDED2"
            raise NetworkError(f"closed while {expected} was expected")

    def _count_cell(self) -> None:
        self._cells += 1
        if self._cells > MOST_CELLS:
            raise LostLinkError(
                Reason.RELAY_PROTOCOL, self._named(f"{self._cells} cells while a circuit was built")
            )

    def _created(self, cell: Cell) -> None:
        if cell.command == Command.DESTROY:
            defends = self._far_end is not None and cell.payload[0] != _NO_REASON
            if defends or self._circ_id == self._last_circ_id:
                raise LostLinkError(
                    Reason.CIRCUIT_REFUSED, self._named(f"CREATE2 was answered by DESTROY {cell.payload[0]}")
                )
            self._circ_id += 1
            self._repeats()
            self._send_create()
        elif cell.command == Command.CREATED2:
            assert self._ntor is not None  # CREATE2 was sent before
            keys = client_finish(self._ntor, parse_created2(cell.payload))
            if self._far_end is None:
                self._open(echo_passage(keys))
            else:
                self._extension = Extension(keys, self._far_end, secrets.token_bytes(32))
                self._phase = _Phase.EXTEND
                self.send_cell(Command.RELAY_EARLY, self._extension.request())
                self._asked_at_s = time.monotonic()

    def _extended(self, cell: Cell) -> None:
        assert self._extension is not None  # the phase table: set before this phase is entered
        if cell.command == Command.DESTROY:
            raise self._extension.destroyed(cell.payload[0])
        if cell.command == Command.RELAY:
            self._open(self._extension.answered(cell.payload))

    def _open(self, passage: tuple[Layer, ...]) -> None:
        round_trip_s = time.monotonic() - self._asked_at_s
        self.circuit = OpenCircuit(passage, self._circ_id, round_trip_s, self._reader.rest())
        self._phase = _Phase.OPEN

    def _read(self) -> bytes:
        """All plain text there is, in pieces of at most a TLS record."""
        count = self.stream.read_into(self._scratch)
        return bytes(self._scratch[:count])


def _nothing(link: Link) -> None:
    """An open link is its owner's."""


_STEPS: Final[Mapping[_Phase, Callable[[Link], None]]] = {
    _Phase.TLS: Link._tls,
    _Phase.HANDSHAKE: Link._link_handshake,
    _Phase.CREATE: Link._take_cells,
    _Phase.EXTEND: Link._take_cells,
    _Phase.OPEN: _nothing,
}
_ANSWERS: Final[Mapping[_Phase, Callable[[Link, Cell], None]]] = {
    _Phase.CREATE: Link._created,
    _Phase.EXTEND: Link._extended,
}


def _connect(target: RelayTarget) -> socket.socket:
    family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    code = sock.connect_ex((target.host, target.port))
    if code not in (0, errno.EINPROGRESS):
        sock.close()
        name = errno.errorcode.get(code, str(code))
        raise LostLinkError(Reason.LINK_FAILED, f"relay {target.host} port {target.port}: connect: {name}")
    return sock


def _reason_of(error: FlashFlowError) -> Reason:
    if isinstance(error, NtorError):
        return Reason.NTOR_FAILED
    # The handshake reports a flawed certificate with its CertError as the cause, a wrong identity without one.
    if isinstance(error.__cause__, CertError) or (
        isinstance(error, PeerError) and " identity " in error.reason
    ):
        return Reason.CERTS_INVALID
    return Reason.LINK_FAILED


def new_scratch() -> memoryview:
    """A buffer for what the sockets of one process give."""
    return memoryview(bytearray(RECEIVE_BYTES))
