"""Publication: a reader of the link sees a whole file or the one before; nothing is ever replaced."""

import os
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coordinator.outputs import v3bw_file
from coordinator.outputs.v3bw_file import publish, remove_older
from flashflow.model.errors import LocalError

NOW_UTC_S = 1_700_000_000.9


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_and_link(tmp_path: Path) -> None:
    link = tmp_path / "v3bw"
    file = publish("1\n", link, NOW_UTC_S)
    assert file == tmp_path / "v3bw.2023-11-14T22:13:20"
    assert os.readlink(link) == "v3bw.2023-11-14T22:13:20", "relative, so that the folder may move"
    assert link.read_text() == "1\n"
    assert file.stat().st_mode & 0o777 == 0o644
    assert names(tmp_path) == ["v3bw", "v3bw.2023-11-14T22:13:20"]


def test_the_link_follows_and_older_files_stay(tmp_path: Path) -> None:
    link = tmp_path / "v3bw"
    publish("1\n", link, NOW_UTC_S)
    publish("2\n", link, NOW_UTC_S + 60)
    assert link.read_text() == "2\n"
    assert names(tmp_path) == ["v3bw", "v3bw.2023-11-14T22:13:20", "v3bw.2023-11-14T22:14:20"]


def test_files_of_one_second_do_not_overwrite_each_other(tmp_path: Path) -> None:
    link = tmp_path / "v3bw"
    files = [publish(f"{number}\n", link, NOW_UTC_S) for number in range(3)]
    stamp = "v3bw.2023-11-14T22:13:20"
    assert [file.name for file in files] == [stamp, f"{stamp}.1", f"{stamp}.2"]
    assert [file.read_text() for file in files] == ["0\n", "1\n", "2\n"]
    assert link.read_text() == "2\n"


def test_too_many_of_one_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v3bw_file, "MAX_FILES_A_SECOND", 2)
    link = tmp_path / "v3bw"
    publish("0\n", link, NOW_UTC_S)
    publish("1\n", link, NOW_UTC_S)
    with pytest.raises(LocalError, match="2 v3bw files of the same second exist already"):
        publish("2\n", link, NOW_UTC_S)
    assert link.read_text() == "1\n"
    assert len(names(tmp_path)) == 3


def test_what_a_killed_process_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / f".v3bw.{os.getpid()}.part").write_text("half a li")
    (tmp_path / f".v3bw.{os.getpid()}.link").symlink_to("nowhere")
    publish("1\n", tmp_path / "v3bw", NOW_UTC_S)
    assert names(tmp_path) == ["v3bw", "v3bw.2023-11-14T22:13:20"]


def test_a_link_to_nowhere_is_mended(tmp_path: Path) -> None:
    (tmp_path / "v3bw").symlink_to("gone")
    publish("1\n", tmp_path / "v3bw", NOW_UTC_S)
    assert (tmp_path / "v3bw").read_text() == "1\n"


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    link = tmp_path / "v3bw"
    link.write_text("mine")
    with pytest.raises(LocalError, match="expected a symbolic link or nothing"):
        publish("1\n", link, NOW_UTC_S)
    assert link.read_text() == "mine"
    assert names(tmp_path) == ["v3bw"]


def test_a_missing_folder(tmp_path: Path) -> None:
    link = tmp_path / "none" / "v3bw"
    with pytest.raises(LocalError) as caught:
        publish("1\n", link, NOW_UTC_S)
    assert caught.value.reason == f"{link}: cannot publish the v3bw file: No such file or directory"


@pytest.mark.parametrize("step", ["link", "replace"])
def test_a_failure_leaves_the_older_file_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    link = tmp_path / "v3bw"
    publish("1\n", link, NOW_UTC_S)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(LocalError, match="cannot publish the v3bw file: No space left on device"):
        publish("2\n", link, NOW_UTC_S + 1)
    assert link.read_text() == "1\n"


def test_content_link_and_names_are_synced_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power loss the link must not point to a file whose bytes were not yet written."""
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name + f" {names(tmp_path)[-1]}")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    publish("1\n", tmp_path / "v3bw", NOW_UTC_S)
    part = f".v3bw.{os.getpid()}.part"
    assert synced == [f"{part} {part}", f"{tmp_path.name} v3bw.2023-11-14T22:13:20"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    link = tmp_path / "v3bw"
    texts = [f"{number}\n" * 20_000 for number in range(10)]
    publish(texts[0], link, NOW_UTC_S)
    stop = threading.Event()
    seen: list[bool] = []

    def read() -> None:
        while not stop.is_set():
            seen.append(link.read_text() in texts)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(50):
        publish(texts[number % 10], link, NOW_UTC_S)
    stop.set()
    reader.join()
    assert seen
    assert all(seen)


def test_the_names_sort_by_time(tmp_path: Path) -> None:
    files = [publish("1\n", tmp_path / "v3bw", NOW_UTC_S + step) for step in (0, 1, 3_600, 86_400 * 40)]
    assert sorted(files) == files
    last = datetime.fromtimestamp(NOW_UTC_S + 86_400 * 40, UTC)
    assert files[-1].name == f"v3bw.{last:%Y-%m-%dT%H:%M:%S}"


def test_old_files_are_removed_and_nothing_else(tmp_path: Path) -> None:
    link = tmp_path / "v3bw"
    for _ in range(2):
        publish("old\n", link, NOW_UTC_S - 60)
    publish("new\n", link, NOW_UTC_S)
    others = ["v3bw.conf", "v3bw.2001-01-01T00:00:00.bak", "other.2001-01-01T00:00:00", "v3bw.2001-01-01"]
    for name in others:
        (tmp_path / name).write_text("x")
    remove_older(link, NOW_UTC_S - 60)
    assert len(names(tmp_path)) == 8, "just so old is not older"
    remove_older(link, NOW_UTC_S - 59)
    assert names(tmp_path) == sorted([*others, "v3bw", "v3bw.2023-11-14T22:13:20"])
    remove_older(link, NOW_UTC_S + 60)
    assert link.read_text() == "new\n", "the newest stays, however old"
