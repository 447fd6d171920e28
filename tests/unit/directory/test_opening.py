"""Files that may be compressed: what is in them, and what is said of those that are damaged, cut off or bombs."""

import gzip
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flashflow.directory.opening import read_bounded
from flashflow.model.errors import LocalError

TEXT = b"network-status-version 3\n" + bytes(range(256)) * 300
Compress = Callable[[bytes], bytes]


def zstd(text: bytes) -> bytes:
    module = pytest.importorskip("zstandard")
    return module.ZstdCompressor(write_checksum=True).compress(text)


def plain(text: bytes) -> bytes:
    return text


COMPRESSED = [lzma.compress, gzip.compress, zstd]


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


def refusal(path: Path, max_bytes: int = 1 << 20) -> str:
    with pytest.raises(LocalError) as caught:
        read_bounded(path, max_bytes)
    assert "\n" not in caught.value.reason
    assert caught.value.reason.startswith(f"{path}: ")
    return caught.value.reason.removeprefix(f"{path}: ")


@pytest.mark.parametrize("compress", [plain, *COMPRESSED])
@pytest.mark.parametrize("text", [b"", b"x", TEXT])
def test_what_was_written_is_read(tmp_path: Path, compress: Compress, text: bytes) -> None:
    assert read_bounded(written(tmp_path, compress(text))) == text


@pytest.mark.parametrize("compress", COMPRESSED)
def test_parts_one_after_the_other_are_read_as_one(tmp_path: Path, compress: Compress) -> None:
    assert read_bounded(written(tmp_path, compress(TEXT) + compress(b"more"))) == TEXT + b"more"


@pytest.mark.parametrize("compress", COMPRESSED)
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_damaged(tmp_path: Path, compress: Compress, kept: float) -> None:
    content = compress(TEXT)
    path = written(tmp_path, content[: int(len(content) * kept)])
    assert refusal(path).startswith("damaged: cannot be decompressed: ")


@pytest.mark.parametrize("compress", COMPRESSED)
def test_a_file_with_another_byte_in_it_is_damaged(tmp_path: Path, compress: Compress) -> None:
    content = bytearray(compress(TEXT))
    content[len(content) // 2] ^= 0x55
    assert refusal(written(tmp_path, bytes(content))).startswith("damaged: cannot be decompressed: ")


@pytest.mark.parametrize("compress", [plain, *COMPRESSED])
def test_no_more_than_the_bound_is_read(tmp_path: Path, compress: Compress) -> None:
    path = written(tmp_path, compress(bytes(100_000)))
    assert len(read_bounded(path, 100_000)) == 100_000
    assert refusal(path, 99_999) == "larger than 99999 bytes, which no Tor network needs"


@pytest.mark.parametrize("compress", COMPRESSED)
def test_a_bomb_is_not_unpacked(tmp_path: Path, compress: Compress) -> None:
    path = written(tmp_path, compress(bytes(1 << 25)))
    assert path.stat().st_size < 1 << 20
    assert refusal(path, 1000) == "larger than 1000 bytes, which no Tor network needs"


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    assert refusal(tmp_path / "missing") == "cannot be read: No such file or directory"
    assert refusal(tmp_path) == "cannot be read: Is a directory"


def test_zstd_without_its_package_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, b"\x28\xb5\x2f\xfd" + b"rest")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert refusal(path) == "is compressed with zstd: reading it takes the Python package zstandard"
