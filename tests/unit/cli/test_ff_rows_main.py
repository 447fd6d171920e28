"""The command `flashflow` itself: help, version, subcommands and exit statuses."""

import importlib

import pytest

from flashflow import __version__
from flashflow.cli import COMMANDS, main


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
