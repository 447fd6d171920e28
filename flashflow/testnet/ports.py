"""Ports for what has to know its own before it listens."""

import random
import socket
from typing import Final

from flashflow.model.errors import LocalError

PORTS: Final = range(12_000, 32_000)
"""Below those that Linux gives to outgoing connections, so that none of them is taken between choice and use."""
_given: set[int] = set()
"""Networks that are made together start later: what one of them is to have is no other one's."""


def free_ports(host: str, count: int) -> list[int]:
    """Ports that nothing listens on now, and that this process was not given before. Raises LocalError.

    They are drawn, so that processes that choose together do not meet.
    """
    drawn = random.sample([port for port in PORTS if port not in _given], 4 * count)
    free = [port for port in drawn if _is_free(host, port)][:count]
    if len(free) < count:
        raise LocalError(f"{host}: {count} free ports expected between {PORTS.start} and {PORTS.stop}")
    _given.update(free)
    return free


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
