"""A link's two buffers: bounded, contiguous, and never copied more than once."""

from typing import Final

RX_BYTES: Final = 64 * 1024
TX_BYTES: Final = 128 * 1024


class Buffer:
    """Bytes that are added at the end and taken from the start."""

    __slots__ = ("_data", "_end", "_start", "_view")

    def __init__(self, capacity_bytes: int) -> None:
        self._data = bytearray(capacity_bytes)
        self._view = memoryview(self._data)
        self._start = 0
        self._end = 0

    def __len__(self) -> int:
        return self._end - self._start

    @property
    def free_bytes(self) -> int:
        """How much more fits."""
        return len(self._data) - len(self)

    def filled(self) -> memoryview:
        """What is in the buffer; valid until it is changed."""
        return self._view[self._start : self._end]

    def room(self, count_bytes: int) -> memoryview:
        """Where the next bytes go, at most `count_bytes` long; then call `added`."""
        wanted = min(count_bytes, self.free_bytes)
        if self._end + wanted > len(self._data):
            self._move_to_front()
        return self._view[self._end : self._end + wanted]

    def added(self, count_bytes: int) -> None:
        """`count_bytes` were written to the start of `room`."""
        self._end += count_bytes

    def add(self, data: bytes) -> None:
        """Adds `data`. ValueError if it does not fit: a bug, for room is checked before anything is read."""
        room = self.room(len(data))
        if len(room) < len(data):
            raise ValueError(f"{len(data)} bytes for a buffer with room for {self.free_bytes}")
        room[:] = data
        self._end += len(data)

    def taken(self, count_bytes: int) -> None:
        """`count_bytes` at the start are done with."""
        self._start += count_bytes
        if self._start == self._end:
            self._start = self._end = 0

    def clear(self) -> None:
        """Drops everything."""
        self._start = self._end = 0

    def _move_to_front(self) -> None:
        size = len(self)
        self._view[:size] = self._view[self._start : self._end]
        self._start, self._end = 0, size
