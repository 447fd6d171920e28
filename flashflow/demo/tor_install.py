"""tor from the distribution: there, or installed, or one line that says what to install."""

import os
import shutil
import subprocess

from rich.console import Console

from flashflow.testnet.tornet_node import MissingTorError, find_program

PROGRAMS = ("tor", "tor-gencert")
INSTALL_S = 300.0


def ensure_tor(console: Console) -> None:
    """Install tor with apt-get where that is possible: as root, on Debian. Raises MissingTorError (status 69)."""
    try:
        _find_all()
    except MissingTorError:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise
        with console.status("installing tor"):
            _install()
        _find_all()


def _find_all() -> None:
    for name in PROGRAMS:
        find_program(name)


def _install() -> None:
    # RUNLEVEL=1 keeps Debian from starting a tor service of its own
    environment = {**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
    for words in ("update", "install -y --no-install-recommends tor"):
        argv = ["apt-get", "-qq", *words.split()]
        try:
            done = subprocess.run(
                argv, env=environment, capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MissingTorError(f"tor is not installed, and {' '.join(argv)} failed: {error}") from None
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2][:200]
            raise MissingTorError(f"tor is not installed, and {' '.join(argv)} failed: {said}")
