"""`flashflow keygen`: two files, next step in words, bad input in one line."""

import stat
from pathlib import Path

import pytest

from flashflow.cli import main
from flashflow.keys import load_certificate


@pytest.mark.parametrize("role", ["coord", "measurer"])
def test_it_writes_key_and_certificate(tmp_path: Path, capsys: pytest.CaptureFixture[str], role: str) -> None:
    folder = tmp_path / "keys"
    assert main(["keygen", role, "alpha", "--dir", str(folder)]) == 0
    assert stat.S_IMODE((folder / "alpha.pem").stat().st_mode) == 0o600
    certificate = load_certificate(folder / "alpha.cert.pem")
    assert certificate.name == "alpha"
    out = capsys.readouterr().out
    assert certificate.fingerprint in out
    assert "next: put " in out


@pytest.mark.parametrize("left", ["alpha.pem", "alpha.cert.pem"])
def test_it_never_overwrites_either_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], left: str
) -> None:
    (tmp_path / left).write_text("precious")
    assert main(["keygen", "measurer", "alpha", "--dir", str(tmp_path)]) == 1
    assert (tmp_path / left).read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [left]
    error = capsys.readouterr().err
    assert error == f"flashflow keygen: {tmp_path / left}: exists already and is not overwritten\n"


@pytest.mark.parametrize(
    "args",
    [[], ["coord"], ["relay", "x"], ["coord", "a b"], ["coord", "../x"], ["coord", "x", "--size", "9"]],
)
def test_wrong_arguments_are_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["keygen", *args]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("flashflow keygen: ")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["keygen", "coord", "x", "--dir", str(tmp_path / "file" / "keys")]) == 1
    assert "cannot be written" in capsys.readouterr().err
