"""What make says on a machine where something is missing, and that a fresh environment would come from the locks."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files that setting up reads, and a PATH folder where `id` says that we are not root."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    program(tmp_path / "bin" / "id", "echo 1000")
    return tmp_path


def program(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def make(project: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run make as a user with a bare environment would."""
    environment = {"PATH": f"{project}/bin:/usr/bin:/bin", "HOME": str(project)}
    command = ["make", "--no-print-directory", *args]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=60)


def own_lines(result: subprocess.CompletedProcess[str]) -> list[str]:
    """What was printed, but for make's own closing line."""
    lines = (result.stdout + result.stderr).splitlines()
    return [line for line in lines if not line.startswith("make")]


def test_no_ensurepip_and_no_root_is_one_line(project: Path) -> None:
    python = project / "bin" / "python-without-ensurepip"
    program(python, f'case "$*" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')
    result = make(project, "demo", f"PYTHON={python}")
    assert result.returncode == 2
    assert own_lines(result) == [
        f"{python} has no ensurepip: install it (Debian: apt-get install python3-venv) and run make again"
    ]
    assert not (project / ".venv").exists()


def test_a_python_that_is_too_old_is_one_line(project: Path) -> None:
    python = project / "bin" / "old-python"
    program(python, 'case "$*" in *version_info*) exit 1;; *) echo Python 3.9.2;; esac')
    result = make(project, "demo", f"PYTHON={python}")
    assert result.returncode == 2
    expected = f"FlashFlow needs Python 3.11 or newer: {python} is Python 3.9.2 (try make PYTHON=python3.12)"
    assert own_lines(result) == [expected]


def test_an_environment_that_is_up_to_date_is_left_alone(project: Path) -> None:
    (project / ".venv").mkdir()
    (project / ".venv" / "run.stamp").touch()
    assert make(project, ".venv/run.stamp", "PYTHON=/nonexistent").returncode == 0
    later = (project / ".venv" / "run.stamp").stat().st_mtime + 5
    os.utime(project / "requirements" / "run.lock", (later, later))
    assert make(project, ".venv/run.stamp", "PYTHON=/nonexistent").returncode == 2


@pytest.mark.parametrize("name", ["build", "run", "dev"])
def test_every_version_in_a_lock_is_pinned_with_hashes(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    entries = re.split(r"^(?=\S)", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_locks_hold_every_dependency_of_pyproject() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["coord"], *extras["relay"]]
    locked = (ROOT / "requirements" / "run.lock").read_text()
    for requirement in wanted:
        name = re.match(r"[a-z0-9-]+", requirement)
        assert name
        assert re.search(rf"^{name.group()}==", locked, re.MULTILINE), requirement
    locked = (ROOT / "requirements" / "dev.lock").read_text()
    for requirement in project["dependency-groups"]["dev"]:
        name = re.match(r"[a-z0-9-]+", requirement)
        assert name
        assert re.search(rf"^{name.group()}==", locked, re.MULTILINE), requirement
