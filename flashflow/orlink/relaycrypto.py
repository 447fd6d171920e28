"""tor1 relay cryptography (tor-spec 5.5, 6.1): AES-128-CTR from a zero counter, and running SHA-1 digests.

Only RELAY, RELAY_EARLY and MEAS_ECHO cells advance a hop's keystream, by 509 bytes each. The payloads of consecutive
MEAS_ECHO cells are thus one contiguous stream: cell i (from 0) starts 509 * i bytes behind the relay cells that went
before on that hop. `AesCtr` seeks to any byte, so that a sampled cell is checked without the ones before it.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from flashflow.orlink.cells import PAYLOAD_BYTES, CellError
from flashflow.orlink.ntor import KeyMaterial
from flashflow.orlink.relaycell import RelayCell, parse_relay_cell

Bytes = bytes | bytearray | memoryview | NDArray[np.uint8]
"""Anything contiguous that holds bytes."""
_BLOCK_BYTES: Final = 16


class AesCtr:
    """One direction's AES-128-CTR stream with a zero IV, at any byte offset.

    `offset_bytes` is the position of the next byte; assigning it seeks.
    """

    __slots__ = ("_context", "_key", "_offset_bytes")

    def __init__(self, key: bytes, offset_bytes: int = 0) -> None:
        self._key = key
        self.offset_bytes = offset_bytes

    @property
    def offset_bytes(self) -> int:
        """Bytes of keystream before the next one."""
        return self._offset_bytes

    @offset_bytes.setter
    def offset_bytes(self, offset_bytes: int) -> None:
        block, skip = divmod(offset_bytes, _BLOCK_BYTES)
        counter = modes.CTR(block.to_bytes(_BLOCK_BYTES, "big"))
        self._context = Cipher(algorithms.AES(self._key), counter).encryptor()
        self._context.update(bytes(skip))
        self._offset_bytes = offset_bytes

    def crypt(self, data: Bytes) -> bytes:
        """Encrypts or decrypts `data`, which may be of any length, and moves on by as much."""
        view = _view(data)
        self._offset_bytes += len(view)
        return self._context.update(view)

    def crypt_into(self, data: Bytes, out: bytearray | memoryview | NDArray[np.uint8]) -> None:
        """As `crypt`, into `out`: contiguous, writable, at least as long as `data` (it may be `data` itself)."""
        view = _view(data)
        self._context.update_into(view, _view(out))
        self._offset_bytes += len(view)


def keystream(key: bytes, offset_bytes: int, length_bytes: int) -> bytes:
    """`length_bytes` of the keystream of `key`, from byte `offset_bytes` on."""
    return AesCtr(key, offset_bytes).crypt(bytes(length_bytes))


class Direction:
    """One direction of one hop: its cipher and its running digest."""

    __slots__ = ("_digest", "cipher")

    def __init__(self, key: bytes, digest_seed: bytes) -> None:
        self.cipher: Final = AesCtr(key)
        self._digest: Any = hashlib.sha1(digest_seed, usedforsecurity=False)

    @property
    def digest(self) -> bytes:
        """The running digest, 20 bytes, over all cells that ended or began at this hop so far."""
        return bytes(self._digest.digest())

    def seal(self, cell: RelayCell) -> bytes:
        """The cell's payload of 509 bytes with its digest set, not yet encrypted."""
        payload = cell.encode()
        self._digest.update(payload)
        return payload[:5] + self.digest[:4] + payload[9:]

    def recognizes(self, payload: bytes) -> bool:
        """Whether the decrypted payload ends at this hop; if so, the digest moves on (tor-spec 6.1)."""
        if payload[1:3] != b"\0\0":
            return False
        digest = self._digest.copy()
        digest.update(payload[:5] + bytes(4) + payload[9:])
        if digest.digest()[:4] != payload[5:9]:
            return False
        self._digest = digest
        return True


class _Hop:
    __slots__ = ("backward", "forward")

    def __init__(self, keys: KeyMaterial) -> None:
        self.forward: Final = Direction(keys.kf, keys.df)
        self.backward: Final = Direction(keys.kb, keys.db)


class ClientHop(_Hop):
    """The client's side of one hop; with one hop only it is all that a circuit needs.

    `forward.cipher.offset_bytes` and `backward.cipher.offset_bytes` say where in the keystreams the hop is, and
    `backward.digest`, right after a cell was received, is what an authenticated SENDME quotes.
    """

    __slots__ = ()

    def send(self, cell: RelayCell) -> bytes:
        """The payload, 509 bytes, of the RELAY cell that carries `cell` to this hop."""
        return self.forward.cipher.crypt(self.forward.seal(cell))

    def receive(self, payload: bytes) -> RelayCell:
        """Reads the payload of a RELAY cell. CellError if it is not this hop's."""
        plain = self.backward.cipher.crypt(_whole(payload))
        if not self.backward.recognizes(plain):
            raise CellError("relay cell: recognised by no hop of the circuit (wrong digest)")
        return parse_relay_cell(plain)


class RelayHop(_Hop):
    """The relay's side of one hop."""

    __slots__ = ()

    def receive(self, payload: bytes) -> tuple[bytes, RelayCell | None]:
        """Decrypts a forward RELAY payload: the decrypted 509 bytes, to pass on if the cell beside them is None."""
        plain = self.forward.cipher.crypt(_whole(payload))
        return plain, parse_relay_cell(plain) if self.forward.recognizes(plain) else None

    def send(self, cell: RelayCell) -> bytes:
        """The payload of the RELAY cell that carries `cell` from this relay to the client."""
        return self.backward.cipher.crypt(self.backward.seal(cell))

    def pass_back(self, payload: bytes) -> bytes:
        """Adds this hop's layer to a payload that comes from further along the circuit."""
        return self.backward.cipher.crypt(_whole(payload))


class OnionCrypt:
    """The client's side of a circuit of several hops, the nearest first."""

    __slots__ = ("_hops",)

    def __init__(self, hops: Sequence[ClientHop] = ()) -> None:
        self._hops = list(hops)

    @property
    def hops(self) -> tuple[ClientHop, ...]:
        """The hops, the nearest first."""
        return tuple(self._hops)

    def add(self, hop: ClientHop) -> None:
        """Adds the hop to which the circuit was just extended."""
        self._hops.append(hop)

    def send(self, hop_index: int, cell: RelayCell) -> bytes:
        """The payload that carries `cell` to hop `hop_index` (0 is the nearest)."""
        payload = self._hops[hop_index].forward.seal(cell)
        for hop in reversed(self._hops[: hop_index + 1]):
            payload = hop.forward.cipher.crypt(payload)
        return payload

    def receive(self, payload: bytes) -> tuple[int, RelayCell]:
        """Which hop a RELAY payload comes from, and its cell. CellError if no hop recognises it."""
        plain = _whole(payload)
        for index, hop in enumerate(self._hops):
            plain = hop.backward.cipher.crypt(plain)
            if hop.backward.recognizes(plain):
                return index, parse_relay_cell(plain)
        raise CellError("relay cell: recognised by no hop of the circuit (wrong digest)")


def _view(data: Bytes) -> memoryview:
    return data.reshape(-1).data if isinstance(data, np.ndarray) else memoryview(data)


def _whole(payload: bytes) -> bytes:
    if len(payload) != PAYLOAD_BYTES:
        raise CellError(f"relay cell: {len(payload)} bytes, {PAYLOAD_BYTES} expected")
    return payload
