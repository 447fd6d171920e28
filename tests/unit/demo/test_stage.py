"""Where a demo keeps its files."""

import os
import tempfile
from pathlib import Path

import pytest

from flashflow.config.coord import MAX_TOR_DATADIR_BYTES
from flashflow.demo.stage import _make_work_folder


@pytest.mark.parametrize("length", [40, 58, 59, 60, 61, 90])
def test_the_directory_s_tor_finds_room_for_its_socket_however_long_the_temporary_folder_is(
    monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        temporary = Path(base) / ("x" * (length - len(base) - 1))
        temporary.mkdir()
        assert len(str(temporary)) == length
        monkeypatch.setattr(tempfile, "tempdir", str(temporary))
        folder = _make_work_folder()
        try:
            assert len(os.fsencode(folder / "coord" / "directory")) <= MAX_TOR_DATADIR_BYTES
            assert (folder.parent == temporary) == (length <= 59)
        finally:
            folder.rmdir()
