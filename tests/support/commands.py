"""The command `flashflow` as a process of its own, and what an error of it has to look like."""

import re
import subprocess
from pathlib import Path

import pytest

from flashflow.cli import main
from flashflow.shell.parent import child_environment, own_command

ROOT = Path(__file__).resolve().parents[2]
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING) ")


def flashflow(
    *args: str | Path, cwd: Path | None = None, seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `flashflow ARGS` to its end."""
    environment = {**child_environment(), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        own_command(*map(str, args)),
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )


def flashflow_here(capsys: pytest.CaptureFixture[str], *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `flashflow ARGS` in this process, which is quicker: for commands that end before they start anything."""
    words = [*map(str, args)]
    status = main(words)
    shown = capsys.readouterr()
    return subprocess.CompletedProcess(words, status, shown.out, shown.err)


def error_line(result: subprocess.CompletedProcess[str], status: int) -> str:
    """The one line on stderr, beside what a service logs, of a command that failed with `status`."""
    assert result.returncode == status, result.stdout + result.stderr
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if not _LOGGED.match(line)]
    return line
