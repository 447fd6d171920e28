"""The command `flashflow` as a process of its own, and what an error of it has to look like."""

import subprocess
from pathlib import Path

from flashflow.shell.parent import child_environment, own_command

ROOT = Path(__file__).resolve().parents[2]


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


def error_line(result: subprocess.CompletedProcess[str], status: int) -> str:
    """The one line on stderr of a command that failed with `status` and printed nothing else."""
    assert result.returncode == status, result.stdout + result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line
