"""The README's "Three hosts" is run as it stands, in an empty folder, on ports that are free."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from flashflow.shell.parent import PARENT_VARIABLE
from flashflow.testnet.ports import free_ports

# One deployment at a time: each measures what this machine can do.
pytestmark = pytest.mark.xdist_group("deployment")

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def script() -> str:
    """The lines of all `sh` blocks of the section, in order."""
    section = README.split("\n## Three hosts\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL))


def on_free_ports(text: str) -> str:
    """The script with other ports, in the configuration that `init` wrote too, and a shorter measurement."""
    relay, listen, ctrl = free_ports("127.0.0.1", 3)
    change = f"sed -i 's/:9001/:{relay}/; s/:12934/:{listen}/; s/:12935/:{ctrl}/' */*.conf\n"
    first = "flashflow init measurer measurer2 --name measurer2\n"
    assert first in text
    assert ":9001" in text
    assert "meas_duration = 10" in text
    shorter = text.replace("meas_duration = 10", "meas_duration = 4")
    return shorter.replace(":9001", f":{relay}").replace(first, first + change)


def run(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it in bash, which stops at the first failure, as a shell where FlashFlow is installed."""
    programs = folder / "bin"
    programs.mkdir()
    for name, command in (("flashflow", "-m flashflow.cli "), ("python3", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {command}"$@"\n')
        (programs / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment.pop(PARENT_VARIABLE, None)
    empty = folder / "empty"
    empty.mkdir()
    # Whatever fails, nothing that the script started goes on.
    guarded = f"set -euo pipefail\ntrap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT\n{text}"
    with (folder / "out").open("w") as out:
        done = subprocess.run(
            ["bash", "-c", guarded], cwd=empty, env=environment, stdout=out, stderr=out, timeout=110
        )
    return subprocess.CompletedProcess(done.args, done.returncode, (folder / "out").read_text())


@pytest.fixture
def folder() -> Iterator[Path]:
    """One whose path is short, as a user's is: Unix sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="ff-", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.timeout(120)
def test_three_hosts_as_written(folder: Path) -> None:
    done = run(on_free_ports(script()), folder)
    assert done.returncode in (0, 143), done.stdout  # `wait` gives the status of the last, ended by SIGTERM
    measured = re.search(r"^myrelay \([0-9A-F]{40}\): ([\d.]+) Mbit/s", done.stdout, re.MULTILINE)
    assert measured, done.stdout
    assert 45 < float(measured.group(1)) < 55
    assert "node_id=" in (folder / "empty/coordinator/data-coord/results/v3bw").read_text()
    assert "Traceback" not in done.stdout


def test_the_commands_and_options_that_the_readme_names_exist() -> None:
    from flashflow.cli import COMMANDS

    named = set(re.findall(r"flashflow ([a-z0-9]+)", script()))
    assert named
    assert named <= COMMANDS.keys()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", README)) <= targets
    for path in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / path).is_file(), path
