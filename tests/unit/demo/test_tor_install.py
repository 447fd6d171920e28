"""tor is installed by root on Debian, or asked for."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from flashflow.demo.tor_install import ensure_tor
from flashflow.testnet import tornet_node
from flashflow.testnet.tornet_node import MissingTorError
from support.commands import error_line, flashflow_here

APT_GET = """#!/bin/sh
echo "$RUNLEVEL $DEBIAN_FRONTEND $*" >>{folder}/calls
case "$2" in
  update) exit {update_status} ;;
  install) for name in tor tor-gencert; do printf '#!/bin/sh\\n' >{folder}/$name; /bin/chmod +x {folder}/$name; done ;;
esac
"""


def console() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder with programs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tornet_node, "SYSTEM_FOLDERS", ())
    return tmp_path


def add_apt_get(folder: Path, update_status: int = 0) -> None:
    path = folder / "apt-get"
    path.write_text(APT_GET.format(folder=folder, update_status=update_status))
    path.chmod(0o755)


def test_root_installs_it(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_apt_get(programs)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    ensure_tor(console())
    assert (programs / "calls").read_text().splitlines() == [
        "1 noninteractive -qq update",
        "1 noninteractive -qq install -y --no-install-recommends tor",
    ]
    ensure_tor(console())
    assert len((programs / "calls").read_text().splitlines()) == 2


def test_another_user_is_told_what_to_install(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_apt_get(programs)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingTorError, match=r"^tor is not installed: install tor \(Debian: apt-get"):
        ensure_tor(console())
    assert not (programs / "calls").exists()


def test_so_is_root_elsewhere(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(MissingTorError) as missing:
        ensure_tor(console())
    assert missing.value.exit_status == 69


def test_an_installation_that_fails_is_one_line(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_apt_get(programs, update_status=100)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(MissingTorError, match=r"^tor is not installed, and apt-get -qq update failed: "):
        ensure_tor(console())


def test_the_command_s_exit_status_is_69(
    programs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = flashflow_here(capsys, "demo", "--tor", "--out", programs / "out")
    assert error_line(result, 69).startswith("flashflow demo: tor is not installed: install tor")
    assert not (programs / "out").exists()


def test_bad_options_are_told_before_tor_is_looked_for(
    programs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = flashflow_here(capsys, "demo", "--tor", "--rates", "0")
    assert error_line(result, 2).startswith("flashflow demo: --rates '0': expected up to 20 numbers")
