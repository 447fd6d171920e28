"""Frames: a 4-byte big-endian length, then that many bytes of UTF-8 JSON; at most 64 KiB."""

from flashflow.model.errors import PeerError

HEADER_BYTES = 4
MAX_FRAME_BYTES = 65536
"""Longest body of a frame, bytes."""


def encode_frame(body: bytes) -> bytes:
    """The frame that carries `body`. A body that is empty or too long is a bug of ours: ValueError."""
    if not 0 < len(body) <= MAX_FRAME_BYTES:
        raise ValueError(f"frame body of {len(body)} bytes")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


class FrameReader:
    """Cuts a byte stream into frame bodies; holds at most one incomplete frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes of an incomplete frame that wait for the rest."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Add received bytes; take the frames out with next_frame() before feeding more."""
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """The next whole body, or None. Raises PeerError for a length of 0 or above 64 KiB, as soon as it is read."""
        if len(self._buffer) < HEADER_BYTES:
            return None
        length = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
        if not 0 < length <= MAX_FRAME_BYTES:
            raise PeerError(f"frame of {length} bytes (expected 1 to {MAX_FRAME_BYTES})")
        end = HEADER_BYTES + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[HEADER_BYTES:end])
        del self._buffer[:end]
        return body
