"""What tests need of the machine that change it under a process: namespaces, mounts, another clock."""

import os
import shutil
import subprocess

import pytest

from flashflow.testnet.links import why_not


def need_netns() -> None:
    """Skips the test where no shaped link can be made, unless FLASHFLOW_REQUIRE lists netns: then it fails."""
    _need(why_not())


def need_mounts() -> None:
    """The same where no file system can be mounted, which takes what namespaces take."""
    _need(_why_no_mount())


def need_false_clocks() -> None:
    """The same where a process cannot be given another clock."""
    _need(None if shutil.which("datefudge") else "datefudge not installed (Debian: datefudge)")


def _need(reason: str | None) -> None:
    if reason is None:
        return
    if "netns" in os.environ.get("FLASHFLOW_REQUIRE", "").replace(",", " ").split():
        pytest.fail(reason)
    pytest.skip(reason)


def _why_no_mount() -> str | None:
    if os.geteuid() != 0:
        return "mounting a file system needs root"
    if missing := [name for name in ("unshare", "mount") if shutil.which(name) is None]:
        return f"{', '.join(missing)} not installed (Debian: util-linux, mount)"
    argv = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/tmp"]  # gone with the process
    tried = subprocess.run(argv, capture_output=True, text=True)
    return tried.stderr.strip() or "mount failed" if tried.returncode else None
