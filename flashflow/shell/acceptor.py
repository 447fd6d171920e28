"""Who gets a TLS handshake: connections wait for their first bytes here, which costs next to nothing.

A handshake costs a millisecond of the loop's time, so strangers who ask for hundreds a second could stop the service.
Measurers are told apart by the name in their ClientHello (flashflow/wire/knock.py) and go first. Others share a small
rate, together and for each address, and a small number at once; beyond that their connections are closed unread.
"""

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from flashflow.model.bucket import Bucket
from flashflow.model.errors import PeerError
from flashflow.shell import sessionlink
from flashflow.wire.knock import record_bytes, server_name

_ACCEPTS_A_TURN = 32
_ACCEPT_PAUSE_S = 0.5
_READ_BYTES = 4096
_NOBODY = "an unknown address"
MAX_HOSTS = 1024
"""Addresses whose rate is remembered; the one that was seen least recently is forgotten."""


@dataclass(frozen=True, slots=True)
class AcceptLimits:
    """What connections get."""

    waiting: int = 256
    """Connections that have not said enough yet; for one more, the oldest is closed."""
    handshakes: int = 64
    """Handshakes of strangers at once."""
    strangers_burst: int = 40
    """Handshakes of strangers at one moment."""
    strangers_per_s: float = 20.0
    """Handshakes of strangers a second after that."""
    host_burst: int = 12
    """The same for strangers of one address."""
    host_per_s: float = 4.0
    """The same for strangers of one address."""
    measurer_burst: int = 10
    """The same for each measurer."""
    measurer_per_s: float = 2.0
    """The same for each measurer."""


@dataclass(slots=True, eq=False)
class _Waiting:
    connection: socket.socket
    host: str
    until_s: float
    data: bytes = b""


class Acceptor:
    """Takes connections from listening sockets; closed by close()."""

    def __init__(
        self,
        *,
        who: Callable[[str], str | None],
        welcome: Callable[[socket.socket, str, bytes], asyncio.Future[None]],
        refused: Callable[[str, str], None],
        limits: AcceptLimits | None = None,
    ) -> None:
        """`who` names the measurer that a server name belongs to; `welcome` gets a connection, its address and its
        first bytes, and gives a future that is done when the handshake is; `refused` hears address and reason."""
        self._who = who
        self._welcome = welcome
        self._refused = refused
        self._limits = limits or AcceptLimits()
        self._listeners: list[socket.socket] = []
        self._waiting: dict[_Waiting, None] = {}
        self._handshakes = 0
        self._strangers: Bucket | None = None
        self._buckets: dict[str, Bucket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.closed_unread = 0
        """Connections of strangers beyond the limits."""

    def start(self, listeners: Iterable[socket.socket]) -> None:
        """Accept from these sockets, which do not block."""
        for listener in listeners:
            self._listeners.append(listener)
            self._listen(listener)

    def close(self) -> None:
        """Close the listeners and all that waits."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        for waiting in list(self._waiting):
            self._drop(waiting)
        if self._timer is not None:
            self._timer.cancel()

    def _listen(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                connection, where = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # of the stranger (ECONNABORTED), or too many open files
                self._refused(_NOBODY, f"cannot accept it: {(error.strerror or str(error)).lower()}")
                if error.errno != errno.ECONNABORTED:
                    loop = asyncio.get_running_loop()
                    loop.remove_reader(listener)
                    loop.call_later(_ACCEPT_PAUSE_S, self._listen, listener)
                return
            connection.settimeout(0)
            self._wait_for(_Waiting(connection, str(where[0]), time.monotonic() + sessionlink.HANDSHAKE_S))

    def _wait_for(self, waiting: _Waiting) -> None:
        if len(self._waiting) >= self._limits.waiting:
            self._refuse(next(iter(self._waiting)), "said nothing while many others came")
        self._waiting[waiting] = None
        asyncio.get_running_loop().add_reader(waiting.connection, self._readable, waiting)
        if self._timer is None:
            self._arm(waiting)

    def _readable(self, waiting: _Waiting) -> None:
        try:
            data = waiting.connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._refuse(waiting, (error.strerror or "connection lost").lower())
            return
        waiting.data += data
        try:
            needed = record_bytes(waiting.data)
        except PeerError:  # TLS will say why
            self._decide(waiting, None)
            return
        if needed is not None and len(waiting.data) >= needed:
            self._decide(waiting, server_name(waiting.data[:needed]))
        elif not data:
            self._refuse(waiting, "connection closed")

    def _decide(self, waiting: _Waiting, name: str | None) -> None:
        measurer = self._who(name) if name else None
        if not self._may_shake_hands(waiting, measurer):
            self.closed_unread += measurer is None
            self._refuse(waiting, "too many connections" if measurer is None else "it connects too often")
            return
        self._forget(waiting)
        done = self._welcome(waiting.connection, waiting.host, waiting.data)
        if measurer is None:
            self._handshakes += 1
            done.add_done_callback(self._shaken)

    def _may_shake_hands(self, waiting: _Waiting, measurer: str | None) -> bool:
        limits, now_s = self._limits, time.monotonic()
        if measurer is not None:
            return _take(self._bucket(measurer, limits.measurer_burst, limits.measurer_per_s, now_s), now_s)
        if self._strangers is None:
            self._strangers = Bucket(limits.strangers_burst, limits.strangers_per_s, now_s)
        of_host = self._bucket(f"host {waiting.host}", limits.host_burst, limits.host_per_s, now_s)
        if self._handshakes >= limits.handshakes or not of_host.whole(now_s):
            return False
        return _take(self._strangers, now_s) and _take(of_host, now_s)

    def _bucket(self, key: str, burst: int, per_s: float, now_s: float) -> Bucket:
        bucket = self._buckets.pop(key, None) or Bucket(burst, per_s, now_s)
        self._buckets[key] = bucket
        if len(self._buckets) > MAX_HOSTS:
            del self._buckets[next(iter(self._buckets))]
        return bucket

    def _shaken(self, _: object) -> None:
        self._handshakes -= 1

    def _refuse(self, waiting: _Waiting, reason: str) -> None:
        self._drop(waiting)
        self._refused(waiting.host, reason)

    def _drop(self, waiting: _Waiting) -> None:
        self._forget(waiting)
        waiting.connection.close()

    def _forget(self, waiting: _Waiting) -> None:
        asyncio.get_running_loop().remove_reader(waiting.connection)
        self._waiting.pop(waiting, None)

    def _arm(self, oldest: _Waiting) -> None:
        delay_s = max(0.0, oldest.until_s - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = None
        while self._waiting:
            oldest = next(iter(self._waiting))
            if time.monotonic() < oldest.until_s:
                self._arm(oldest)
                return
            self._refuse(oldest, "no TLS handshake in time")


def _take(bucket: Bucket, now_s: float) -> bool:
    if not bucket.whole(now_s):
        return False
    bucket.take(1)
    return True
