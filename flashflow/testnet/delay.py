"""A round trip that a link lacks: `python -m flashflow.testnet.delay DEVICE DEVICE SECONDS`.

Every Ethernet frame that comes in at one device goes out at the other, SECONDS later, both ways. So TCP itself sees the
round trip: its handshakes, acknowledgements and windows take that long, which a proxy between two connections would
hide from it. It prints `ready` and ends with SIGTERM. Frames must not be larger than an Ethernet's: offloads off.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections import deque
from typing import Final

from flashflow.shell.parent import follow_parent

TICK_S: Final = 0.001
"""How often frames are taken and passed on."""
FRAME_BYTES: Final = 2048
BUFFER_BYTES: Final = 16 << 20
_ETH_P_ALL: Final = 3
_SOL_PACKET: Final = 263
_PACKET_IGNORE_OUTGOING: Final = 23
_SO_RCVBUFFORCE: Final = 33
"""Numbers of Linux that Python has no names for (packet(7), linux/if_packet.h)."""


class Direction:
    """Frames from one device to another."""

    def __init__(self, source: socket.socket, drain: socket.socket, delay_s: float) -> None:
        self._source = source
        self._drain = drain
        self._delay_s = delay_s
        self._frames: deque[tuple[float, bytes]] = deque()

    def turn(self) -> None:
        """Take what came in, pass on what is due."""
        due_s = time.monotonic() + self._delay_s
        with contextlib.suppress(BlockingIOError):
            while True:
                self._frames.append((due_s, self._source.recv(FRAME_BYTES)))
        frames, now_s = self._frames, time.monotonic()
        with contextlib.suppress(BlockingIOError):
            while frames and frames[0][0] <= now_s:
                self._drain.send(frames[0][1])
                frames.popleft()


def open_device(name: str) -> socket.socket:
    """A socket for all that comes in at a device."""
    found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    found.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
    found.bind((name, _ETH_P_ALL))
    found.settimeout(0)
    return found


def main(words: list[str]) -> int:
    """Pass frames on until SIGTERM."""
    follow_parent()
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        one, other = (open_device(name) for name in words[:2])
    except OSError as error:
        print(f"error: {' '.join(words[:2])}: {error.strerror}", file=sys.stderr)
        return 1
    with contextlib.suppress(OSError):  # a wire waits for no processor
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    delay_s = float(words[2])
    directions = (Direction(one, other, delay_s), Direction(other, one, delay_s))
    print("ready", flush=True)
    while signal.sigtimedwait(ends, TICK_S) is None:
        for direction in directions:
            direction.turn()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
