"""Which processes have ended. A zombie has: when whoever adopted it asks for its status is not ours to say.

But not yet while it has threads: killed ones end in any order, and the last one closes what they share.
"""

import time
from collections.abc import Iterable

import psutil

from support.waiting import POLL_S


def has_ended(process: psutil.Process) -> bool:
    """Whether nothing of it runs any more."""
    try:
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return not process.is_running() or (is_zombie and process.num_threads() <= 1)
    except psutil.NoSuchProcess:
        return True


def left_of(processes: Iterable[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Those that still run after so long."""
    left = list(processes)
    deadline_s = time.monotonic() + timeout_s
    while (left := [one for one in left if not has_ended(one)]) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    return left


def named(processes: Iterable[psutil.Process], name: str) -> list[psutil.Process]:
    """Those of that name among processes some of which may just end."""
    return [one for one in processes if _name(one) == name]


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""
