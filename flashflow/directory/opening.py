"""Files that may be compressed: read whole, with a bound on what comes out. Which compression, the first bytes say."""

import gzip
import importlib
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from flashflow.model.errors import LocalError

MAX_TEXT_BYTES = 512 << 20
"""Ten times a full network's descriptors; more is another file, or a bomb."""
_ZSTD_STEP_BYTES = 1024
"""Fed to zstd at once: it gives all that comes of it, up to 32 MB."""


def read_bounded(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """The content of the file at `path`, decompressed (xz, gzip, zstd). Raises LocalError."""
    try:
        with path.open("rb") as file:
            magic = file.read(6)
            file.seek(0)
            found = (read for start, read in _READERS.items() if magic.startswith(start))
            content = next(found, _read_plain)(file, max_bytes + 1)
    except ModuleNotFoundError:
        raise LocalError(
            f"{path}: is compressed with zstd: reading it takes the Python package zstandard"
        ) from None
    except (lzma.LZMAError, zlib.error, EOFError, gzip.BadGzipFile, _ZstdError) as error:
        raise LocalError(f"{path}: damaged: cannot be decompressed: {error}") from None
    except OSError as error:
        raise LocalError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) > max_bytes:
        raise LocalError(f"{path}: larger than {max_bytes} bytes, which no Tor network needs")
    return content


class _ZstdError(Exception):
    """zstandard's own error, or a stream that is cut off."""


def _read_plain(file: BinaryIO, limit: int) -> bytes:
    return file.read(limit)


def _read_xz(file: BinaryIO, limit: int) -> bytes:
    with lzma.open(file) as stream:
        return stream.read(limit)


def _read_gzip(file: BinaryIO, limit: int) -> bytes:
    with gzip.open(file) as stream:
        return stream.read(limit)


def _read_zstd(file: BinaryIO, limit: int) -> bytes:
    """One frame after the other; zstandard's own file object does not notice a frame that is cut off."""
    zstandard: Any = importlib.import_module("zstandard")
    content = io.BytesIO()
    frame = None
    rest = b""
    try:
        while content.tell() < limit and (data := rest or file.read(_ZSTD_STEP_BYTES)):
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            content.write(frame.decompress(data))
            rest, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
    except zstandard.ZstdError as error:
        raise _ZstdError(str(error)) from None
    if frame is not None and content.tell() < limit:
        raise _ZstdError("the file is cut off")
    return content.getvalue()[:limit]


_READERS: dict[bytes, Callable[[BinaryIO, int], bytes]] = {
    b"\xfd7zXZ\0": _read_xz,
    b"\x1f\x8b": _read_gzip,
    b"\x28\xb5\x2f\xfd": _read_zstd,
}
"""How a file begins -> how it is read."""
