"""The circuits of one link that end at this relay: made with ntor, refused, destroyed."""

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from flashflow.model.errors import PeerError
from flashflow.orlink import extend, ntor
from flashflow.orlink.cells import Cell, CellError, Command, encode_cell
from flashflow.relay.buffers import Buffer

MAX_CIRCUITS: Final = 128
"""Circuits on one link."""
DESTROY_PROTOCOL: Final = b"\x01"
DESTROY_RESOURCES: Final = b"\x05"
_INITIATOR_BIT: Final = 0x80000000

T = TypeVar("T")


class OnionKeys(Protocol):
    """What answering CREATE2 needs."""

    @property
    def node_id(self) -> bytes:
        """The relay's RSA fingerprint, 20 bytes."""
        ...

    @property
    def ntor_private(self) -> bytes:
        """The relay's ntor onion key, 32 bytes."""
        ...

    @property
    def random(self) -> Callable[[int], bytes]:
        """Entropy, so many bytes."""
        ...


class CircuitTable(Generic[T]):
    """Circuit ID -> what is kept of the circuit."""

    def __init__(
        self,
        keys: OnionKeys,
        out: Buffer,
        make: Callable[[ntor.KeyMaterial], T],
        on_gone: Callable[[int], None] = lambda circ_id: None,
    ) -> None:
        """Answers go to `out`; `make` gives what is kept of a new circuit, `on_gone` hears of one that is no more."""
        self._keys = keys
        self._out = out
        self._make = make
        self._on_gone = on_gone
        self._found: dict[int, T] = {}

    def __len__(self) -> int:
        return len(self._found)

    @property
    def ids(self) -> tuple[int, ...]:
        """Circuit IDs on this link."""
        return tuple(self._found)

    def get(self, circ_id: int) -> T | None:
        """What is kept of a circuit; None if there is none of that ID."""
        return self._found.get(circ_id)

    def send(self, circ_id: int, command: int, payload: bytes) -> None:
        """Sends one cell."""
        self._out.add(encode_cell(Cell(circ_id, command, payload)))

    def create(self, circ_id: int, payload: bytes) -> None:
        """Answers CREATE2. CellError if the circuit exists already."""
        if circ_id in self._found:
            raise CellError(f"CREATE2: circuit {circ_id} exists")
        if not circ_id & _INITIATOR_BIT:
            self.destroy(circ_id, DESTROY_PROTOCOL)
            return
        if len(self._found) >= MAX_CIRCUITS:
            self.destroy(circ_id, DESTROY_RESOURCES)
            return
        try:
            reply, keys = self._answer(payload)
        except PeerError:  # made for another key or in another way: the link is fine
            self.destroy(circ_id, DESTROY_PROTOCOL)
            return
        self._found[circ_id] = self._make(keys)
        self.send(circ_id, Command.CREATED2, extend.encode_created2(reply))

    def destroy(self, circ_id: int, reason: bytes) -> None:
        """Refuses or ends a circuit."""
        self.send(circ_id, Command.DESTROY, reason)
        self.forget(circ_id)

    def forget(self, circ_id: int) -> None:
        """The other side destroyed a circuit."""
        if self._found.pop(circ_id, None) is not None:
            self._on_gone(circ_id)

    def _answer(self, payload: bytes) -> tuple[bytes, ntor.KeyMaterial]:
        kind, onionskin = extend.parse_create2(payload)
        if kind != extend.HANDSHAKE_NTOR:
            raise CellError(f"CREATE2: handshake type {kind}, {extend.HANDSHAKE_NTOR} expected")
        keys = self._keys
        return ntor.server_reply(keys.node_id, keys.ntor_private, onionskin, keys.random(32))
