"""On the path of a process under libfaketime, where time.sleep fails: its absolute wait is refused, select's is not."""

import select
import time


def _sleep(seconds: float) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select([], [], [], seconds)


time.sleep = _sleep
