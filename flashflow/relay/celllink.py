"""One connection that carries cells: TLS, the OR handshake, then cells; with bounded buffers and real back-pressure."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from flashflow.model.errors import NetworkError
from flashflow.orlink import bulk
from flashflow.orlink.bulk import Cells
from flashflow.orlink.cells import CELL_BYTES, CellError, command_name, is_variable
from flashflow.orlink.link import OpenLink, ResponderHandshake
from flashflow.relay.buffers import RX_BYTES, TX_BYTES, Buffer
from flashflow.relay.core.effects import Role
from flashflow.relay.counting import CountedStream, Counter
from flashflow.relay.tls import RECORD_BYTES, TlsStream

RESERVE_BYTES: Final = 8 * 1024
"""Room in the send buffer that reading leaves free: for the handshake's answer and for reports."""
MAX_SKIPPED_BYTES: Final = 4096
"""Longest variable-length cell that is skipped behind the handshake, where none is of interest."""
HANDSHAKE_S: Final = 10.0
FLUSH_S: Final = 2.0
LINGER_S: Final = 1.0
_HEADER_BYTES: Final = bulk.HEADER_BYTES


class Stage(StrEnum):
    """How far a link is."""

    TLS = "TLS handshake"
    HANDSHAKE = "link handshake"
    OPEN = "open"
    FLUSHING = "sending the rest"
    LINGERING = "waiting for the other side to close"
    CLOSED = "closed"


_ENDING: Final = frozenset({Stage.FLUSHING, Stage.LINGERING, Stage.CLOSED})


class CellLink(ABC):
    """One connection of somebody to a relay. What its cells mean, and who may open it, is a subclass's.

    `readable` and `writable` say whether the socket may have or take bytes: epoll is edge-triggered, so they are set by
    its events and cleared when TLS asks to wait.
    """

    def __init__(
        self,
        number: int,
        host: str,
        stream: TlsStream,
        counter: Counter,
        make_handshake: Callable[["CellLink"], ResponderHandshake],
        now_s: float,
    ) -> None:
        self.number = number
        self.host = host
        self.certificate: bytes | None = None
        self.role = Role.STRANGER
        self.stage = Stage.TLS
        self.deadline_s: float | None = now_s + HANDSHAKE_S
        self.readable = True
        self.writable = True
        self.stream = stream
        self.rx: Final = Buffer(RX_BYTES)
        self.tx: Final = Buffer(TX_BYTES)
        self._counted = CountedStream(stream, counter)
        self._make_handshake = make_handshake
        self._handshake: ResponderHandshake | None = None

    @abstractmethod
    def take_cells(self, cells: Cells) -> int:
        """Handles whole cells at the start of `cells`, at least one: how many. PeerError if the link is to be closed.

        It may queue as many cells as it takes, and no more.
        """

    @abstractmethod
    def opened(self, link: OpenLink) -> None:
        """The handshake is complete. PeerError if the link is to be closed because of who opened it."""

    @property
    def closing(self) -> bool:
        """No more cells are handled."""
        return self.stage in _ENDING

    @property
    def wants_read(self) -> bool:
        """There may be bytes, and there is room for them and for the answer to them."""
        return self.readable and not self.closing and self.tx.free_bytes > 2 * RESERVE_BYTES

    @property
    def wants_write(self) -> bool:
        """There are bytes to send, and the socket may take them."""
        return self.writable and len(self.tx) > 0

    def read(self, limit_bytes: int) -> int:
        """Reads at most `limit_bytes` and handles the cells: how many bytes it read.

        PeerError or NetworkError if the link has to be closed.
        """
        if self.stage is Stage.TLS and not self._tls_complete():
            return 0
        count = self._fill(min(limit_bytes, self.rx.free_bytes, self.tx.free_bytes - RESERVE_BYTES))
        if self._handshake is not None:
            self._take_handshake(self._handshake)
        if self.stage is Stage.OPEN:
            self._take_cells()
        return count

    def write(self, limit_bytes: int) -> int:
        """Writes at most `limit_bytes` (a write that TLS has begun is finished): how many. NetworkError."""
        data, count = self.tx.filled(), 0
        end = min(len(data), max(limit_bytes, self.stream.unfinished_bytes))
        while count < end:
            sent = self._counted.send(data[count:end])
            if sent == 0:
                self.writable = False
                break
            count += sent
        self.tx.taken(count)
        return count

    def flush(self, now_s: float) -> None:
        """No more is read; what is buffered is sent, then the link ends."""
        if not self.closing:
            self.stage = Stage.FLUSHING
            self.deadline_s = now_s + FLUSH_S
        self.settle(now_s)

    def settle(self, now_s: float) -> None:
        """After writing: a link that was to be flushed, and is, goes on to linger."""
        if self.stage is Stage.FLUSHING and len(self.tx) == 0:
            self.linger(now_s)

    def linger(self, now_s: float) -> None:
        """Nothing more is read or sent; the other side has a moment to read what is on its way, and to close."""
        self.tx.clear()
        self.stream.finish()
        self.stage = Stage.LINGERING
        self.deadline_s = now_s + LINGER_S

    def close(self) -> None:
        """The end."""
        self.tx.clear()
        self.stage = Stage.CLOSED
        self.stream.close()

    def _tls_complete(self) -> bool:
        if not self.stream.handshake():
            self.readable = False
            return False
        self.certificate = self.stream.certificate_sha256()
        self._handshake = self._make_handshake(self)
        self.tx.add(self._handshake.start())
        self.stage = Stage.HANDSHAKE
        return True

    def _fill(self, limit_bytes: int) -> int:
        room, count = self.rx.room(limit_bytes), 0
        while count < len(room):
            got = self._counted.recv_into(room[count : count + RECORD_BYTES])
            if got is None:
                self.readable = False
                break
            if got == 0:
                raise NetworkError("closed by the other side")
            count += got
        self.rx.added(count)
        return count

    def _take_handshake(self, handshake: ResponderHandshake) -> None:
        data = bytes(self.rx.filled())
        self.rx.clear()
        self.tx.add(handshake.receive(data))
        if handshake.open is not None:
            self.opened(handshake.open)
            self._handshake = None
            self.stage = Stage.OPEN
            self.deadline_s = None
            self.rx.add(handshake.open.rest)

    def _take_cells(self) -> None:
        """Handles all whole cells; half a cell stays."""
        while not self.closing and len(self.rx) > _HEADER_BYTES:
            data = self.rx.filled()
            taken = self._skip(data) if is_variable(data[4]) else self._take_whole(data)
            if taken == 0:
                return
            self.rx.taken(taken)

    def _take_whole(self, data: memoryview) -> int:
        cells = bulk.as_cells(data)
        return self.take_cells(cells) * CELL_BYTES if len(cells) else 0

    def _skip(self, data: memoryview) -> int:
        if len(data) < _HEADER_BYTES + 2:
            return 0
        size = int.from_bytes(data[_HEADER_BYTES : _HEADER_BYTES + 2], "big")
        if size > MAX_SKIPPED_BYTES:
            raise CellError(
                f"{command_name(data[4])} cell: {size} bytes, at most {MAX_SKIPPED_BYTES} expected"
            )
        whole = _HEADER_BYTES + 2 + size
        return whole if len(data) >= whole else 0
