"""The command `flashflow` itself: help, version, subcommands and exit statuses."""

import importlib
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flashflow import __version__
from flashflow.cli import COMMANDS, main
from flashflow.keys.certificates import load_certificate, load_own


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_without_a_command_the_help_names_every_subcommand(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in shown


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"flashflow {__version__}\n"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_subcommand_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert importlib.import_module(f"flashflow.cli.{name}").app
    assert main([name, "--help"]) == 0
    assert f"flashflow {name}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["dance"], ["--config", "x"], ["coord", "--colour"], ["measurer"]])
def test_wrong_words_are_one_line_and_exit_status_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("role", ["coord", "measurer"])
def test_keygen_makes_a_key_and_a_certificate_to_give_away_once(
    role: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["keygen", role, "m-1", "--dir", str(tmp_path)]
    assert main(words) == 0
    key, certificate = tmp_path / "m-1.pem", tmp_path / "m-1.cert.pem"
    assert sorted(tmp_path.iterdir()) == [certificate, key]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    own = load_own(key, datetime.now(UTC))
    assert own.name == "m-1"
    assert load_certificate(certificate).fingerprint == own.fingerprint
    assert own.fingerprint in capsys.readouterr().out
    before = key.read_bytes(), certificate.read_bytes()
    assert main(words) == 1
    assert (key.read_bytes(), certificate.read_bytes()) == before
    assert "exists already and is not overwritten" in capsys.readouterr().err
