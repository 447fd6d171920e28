"""`flashflow config check` of a coordinator: its source of relays and its filter."""

from pathlib import Path

import pytest

from support.commands import flashflow_here


def check(folder: Path, capsys: pytest.CaptureFixture[str], directory: str, rules: str = "") -> list[str]:
    """What it says on stderr, warnings without that about the coordinator's key."""
    (folder / "relay_filter").write_text(rules)
    config = folder / "coord.conf"
    config.write_text(f"[coord]\ndatadir = data\n[directory]\n{directory}")
    result = flashflow_here(capsys, "config", "check", config)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{config}: OK, a coordinator: ")
    return [line for line in result.stderr.splitlines() if "[coord] key" not in line]


def test_a_tor_needs_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, capsys, "source = tor\ntor_bin = sh\n") == []


def test_a_tor_that_is_not_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = check(tmp_path, capsys, "source = tor\ntor_bin = no-such-tor\n")
    assert said == ["warning: [directory] tor_bin: no such program: no-such-tor"]


def test_a_tor_of_somebody_elses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, capsys, "source = tor\ncontrol = [::1]:9051\ntor_bin = no-such-tor\n") == []


def test_each_loop_rule_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, c = ("A" * 40, "B" * 40, "C" * 40)
    rules = f"allow {a} mode=loop\nallow {b}\nallow nick:some\nallow family:{c}\nallow {c} mode=loop rate=5\n"
    said = check(tmp_path, capsys, "source = tor\ntor_bin = sh\n", rules)
    assert said == [
        f"warning: {tmp_path}/relay_filter, line {line}: mode=loop loads {who} to its limit without asking it"
        for line, who in ((1, a), (5, c))
    ]
