"""Where the coordinator is, and its cookie."""

from pathlib import Path

import pytest

from flashflow.ctrl.access import Access, find_access
from flashflow.model.errors import LocalError, UsageError
from flashflow.model.ids import Address


def test_address_and_cookie_need_no_configuration(tmp_path: Path) -> None:
    assert find_access(None, "[::1]:12935", tmp_path) == Access(Address("::1", 12935), tmp_path)


def write_config(folder: Path) -> Path:
    file = folder / "coord.conf"
    file.write_text("[coord]\ndatadir = here\nctrl_addr = 127.0.0.1:4711\n[directory]\nconsensus = c\n")
    return file


def test_the_coordinators_own_file_tells_both(tmp_path: Path) -> None:
    file = write_config(tmp_path)
    expected = Access(Address("127.0.0.1", 4711), tmp_path / "here" / "control_auth_cookie")
    assert find_access(file, None, None) == expected
    assert find_access(file, "[::1]:9", None) == Access(Address("::1", 9), expected.cookie_file)


def test_coord_conf_of_the_current_folder_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"--config coord\.conf, or both --addr and --cookie"):
        find_access(None, "127.0.0.1:1", None)
    write_config(tmp_path)
    assert find_access(None, None, None).address == Address("127.0.0.1", 4711)


@pytest.mark.parametrize(
    ("content", "found"), [(b"", "0 bytes"), (b"x" * 31, "31 bytes"), (b"x" * 99, "more")]
)
def test_a_file_that_is_no_cookie(tmp_path: Path, content: bytes, found: str) -> None:
    file = tmp_path / "cookie"
    file.write_bytes(content)
    with pytest.raises(LocalError, match=f"expected a cookie of 32 bytes, found {found}"):
        Access(Address("127.0.0.1", 1), file).cookie()


def test_no_cookie_yet(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="written when flashflow coord starts"):
        Access(Address("127.0.0.1", 1), tmp_path / "none").cookie()
