"""Waiting for what other processes do, where nothing tells of it."""

import time
from collections.abc import Callable

POLL_S = 0.05


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    """Polls until the condition holds; fails the test if it does not."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not within {timeout_s:g} s: {what}"
        time.sleep(POLL_S)
