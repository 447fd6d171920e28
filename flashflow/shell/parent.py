"""No process outlives the one that started it.

A parent sets FLASHFLOW_PARENT to its pid for a child (`child_environment`); the child asks the kernel for SIGKILL at
the parent's death (`follow_parent`). The kernel's signal comes when the parent's *thread* that forked ends, so
children are started from the main thread.
"""

import ctypes
import os
import signal
import sys

PARENT_VARIABLE = "FLASHFLOW_PARENT"
_PR_SET_PDEATHSIG = 1


def child_environment() -> dict[str, str]:
    """The environment for a child that must not outlive this process."""
    return {**os.environ, PARENT_VARIABLE: str(os.getpid()), "PYTHONUNBUFFERED": "1"}


def follow_parent() -> None:
    """In a child: die with the parent that FLASHFLOW_PARENT names; does nothing without one."""
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if not parent.isdigit():
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):  # it died before the call
        sys.exit(1)


def own_command(*args: str) -> list[str]:
    """The command line that runs `flashflow ARGS` with this very installation."""
    return [sys.executable, "-m", "flashflow.cli", *args]
