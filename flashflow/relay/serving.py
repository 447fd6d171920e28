"""A process that serves OR links: listening sockets, links, signals, one epoll loop. Who serves what is a subclass's."""

import contextlib
import logging
import resource
import select
import signal
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Final, Generic, TypeVar

from flashflow.model.clock import Now
from flashflow.model.errors import LocalError, NetworkError, PeerError
from flashflow.model.ids import Address
from flashflow.relay.celllink import CellLink, Stage
from flashflow.relay.core.bucket import TokenBucket
from flashflow.relay.core.effects import Role
from flashflow.relay.lanes import Lane

log = logging.getLogger(__name__)

MAX_ACCEPTS: Final = 8
"""New links in one go, so that a flood of them does not hold up the others."""
MAX_FILES: Final = 4096
SWEEP_S: Final = 0.25
_EDGES: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_GONE: Final = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP

L = TypeVar("L", bound=CellLink)


class LinkServer(ABC, Generic[L]):
    """Accepts links and lets them read and write in turn, until SIGTERM or SIGINT."""

    max_strangers: int
    """Links of no role; one more and the oldest of them goes."""

    def __init__(self, rate_bytes: float | None, now: Now) -> None:
        """`rate_bytes` limits reading and, separately, writing."""
        self._readers: Final[Lane[L]] = Lane(TokenBucket(rate_bytes, now.mono_s), self._read, _wants_read)
        self._writers: Final[Lane[L]] = Lane(TokenBucket(rate_bytes, now.mono_s), self._write, _wants_write)
        self._epoll = select.epoll()
        self._listeners: dict[int, socket.socket] = {}
        self._links: dict[int, L] = {}
        self._by_fd: dict[int, L] = {}
        self._last_number = 0
        self._sweep_s = now.mono_s
        self._running = True
        self._stopped_by: int | None = None
        self._hung_up = False
        self._wake_ends = _wake_pair()
        self._epoll.register(self._wake_ends[0].fileno(), select.EPOLLIN | select.EPOLLET)
        _raise_file_limit()

    @abstractmethod
    def make_link(self, number: int, host: str, sock: socket.socket) -> L:
        """A new link, which was just accepted."""

    @abstractmethod
    def was_read(self, link: L, count_bytes: int) -> None:
        """A link read so much."""

    @abstractmethod
    def was_written(self, link: L, count_bytes: int) -> None:
        """A link wrote so much."""

    @abstractmethod
    def lost(self, link: L) -> None:
        """A link is closed, by whomever."""

    @abstractmethod
    def tick(self, now: Now) -> None:
        """Once in each turn of the loop."""

    @abstractmethod
    def moments(self) -> Sequence[float | None]:
        """Monotonic times at which `tick` is wanted; None for never."""

    @abstractmethod
    def hung_up(self) -> None:
        """SIGHUP came."""

    @abstractmethod
    def ended(self) -> None:
        """All links are closed."""

    @property
    def capped(self) -> bool:
        """Strangers may not read as much as they like."""
        return False

    def serve(self, now_s: float) -> None:
        """One round of reading and writing."""
        self._readers.serve(now_s)
        self._writers.serve(now_s)

    def listen_on(self, addresses: Iterable[Address]) -> tuple[Address, ...]:
        """Begins to listen, and says where. LocalError if an address is not to be had."""
        for address in addresses:
            listener = _listening_socket(address)
            self._listeners[listener.fileno()] = listener
            self._epoll.register(listener.fileno(), select.EPOLLIN)
        names = [listener.getsockname() for listener in self._listeners.values()]
        return tuple(Address(name[0], name[1]) for name in names)

    def watch_signals(self) -> None:
        """SIGTERM and SIGINT end run(), SIGHUP has `hung_up` called; from the main thread only."""
        # Handlers only note the signal; the byte in the socket pair ends epoll's wait.
        signal.set_wakeup_fd(self._wake_ends[1].fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def stop(self) -> None:
        """Ends run(), from any thread."""
        self._running = False
        with contextlib.suppress(OSError):  # run() may have ended already
            self._wake_ends[1].send(b"\0")

    def run(self) -> int | None:
        """Serves until SIGTERM or SIGINT, and says which it was; None after stop()."""
        try:
            while self._running:
                self._turn(self._wait())
                if self._hung_up:
                    self._hung_up = False
                    self.hung_up()
        finally:
            self._close_all()
        return self._stopped_by

    def find(self, number: int) -> L | None:
        """The link of that number, if it still lives."""
        return self._links.get(number)

    def wake(self, link: L) -> None:
        """Something was queued on the link."""
        self._writers.add(link)

    def drop(self, link: L, reason: str) -> None:
        """Closes the link at once."""
        if self._links.pop(link.number, None) is None:
            return
        level = logging.DEBUG if link.role is Role.STRANGER else logging.INFO
        log.log(level, "link %d from %s: %s", link.number, link.host, reason)
        del self._by_fd[link.stream.fileno()]
        link.close()
        self.lost(link)

    def _turn(self, events: Iterable[tuple[int, int]]) -> None:
        for fd, mask in events:
            self._on_socket(fd, mask)
        now = read_now()
        self.tick(now)
        self._sweep(now.mono_s)
        self.serve(now.mono_s)

    def _wait(self) -> list[tuple[int, int]]:
        """Waits until there is something to do, and gives the sockets' events."""
        now_s = time.monotonic()
        moments = (self._sweep_s, *self.moments())
        wait_s = max(0.0, min(moment - now_s for moment in moments if moment is not None))
        lanes = (self._readers.wait_s(now_s, self.capped), self._writers.wait_s(now_s, capped=False))
        waiting = [lane_s for lane_s in lanes if lane_s is not None]
        if not waiting:
            return self._epoll.poll(wait_s)
        # Links wait for tokens: what arrives meanwhile could not be read anyway, so it need not wake us.
        time.sleep(min(wait_s, *waiting))
        return self._epoll.poll(0)

    def _on_socket(self, fd: int, mask: int) -> None:
        if fd in self._listeners:
            self._accept(self._listeners[fd])
            return
        link = self._by_fd.get(fd)
        if link is None:
            return
        if link.stage is Stage.LINGERING and mask & _GONE:
            self.drop(link, "closed by both sides")
            return
        # TLS may want to write in order to read, and the other way round.
        link.readable = link.writable = True
        self._readers.add(link)
        self._writers.add(link)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(MAX_ACCEPTS):
            try:
                sock, name = listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:  # out of files, or the other side has gone already
                log.warning("accept: %s", exc.strerror)
                self._drop_oldest_stranger("its place is needed")
                return
            self._add_link(sock, str(name[0]).partition("%")[0])

    def _add_link(self, sock: socket.socket, host: str) -> None:
        if sum(link.role is Role.STRANGER for link in self._links.values()) >= self.max_strangers:
            self._drop_oldest_stranger("too many links")
        self._last_number += 1
        link = self.make_link(self._last_number, host, sock)
        self._links[link.number] = self._by_fd[link.stream.fileno()] = link
        self._epoll.register(link.stream.fileno(), _EDGES)
        self._readers.add(link)

    def _drop_oldest_stranger(self, reason: str) -> None:
        oldest = next((link for link in self._links.values() if link.role is Role.STRANGER), None)
        if oldest is not None:
            self.drop(oldest, reason)

    def _read(self, link: L, limit_bytes: int) -> int:
        if link.closing:
            return 0
        count = 0
        try:
            count = link.read(limit_bytes)
        except (PeerError, NetworkError) as exc:
            self.drop(link, exc.reason)
        self.was_read(link, count)
        self._writers.add(link)
        return count

    def _write(self, link: L, limit_bytes: int) -> int:
        count = 0
        try:
            count = link.write(limit_bytes)
        except NetworkError as exc:
            self.drop(link, exc.reason)
        self.was_written(link, count)
        link.settle(time.monotonic())
        self._readers.add(link)
        return count

    def _sweep(self, now_s: float) -> None:
        """Closes links whose time is up."""
        if now_s < self._sweep_s:
            return
        self._sweep_s = now_s + SWEEP_S
        for link in list(self._links.values()):
            if link.deadline_s is not None and now_s >= link.deadline_s:
                self.drop(link, f"took too long: {link.stage}")

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._hung_up = True
        else:
            self._stopped_by = number
            self._running = False

    def _close_all(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        for link in list(self._links.values()):
            self.drop(link, "the relay ends")
        self.ended()
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
        for end in self._wake_ends:
            end.close()
        self._epoll.close()


def read_now() -> Now:
    """Both clocks, now."""
    return Now(time.monotonic(), time.time())


def _listening_socket(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(tuple(address))
        listener.listen(512)
    except (OSError, ValueError) as exc:
        raise LocalError(f"cannot listen on {address}: {getattr(exc, 'strerror', None) or exc}") from exc
    return listener


def _wake_pair() -> tuple[socket.socket, socket.socket]:
    reader, writer = socket.socketpair()
    reader.settimeout(0)
    writer.settimeout(0)
    return reader, writer


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _wants_read(link: CellLink) -> bool:
    return link.wants_read


def _wants_write(link: CellLink) -> bool:
    return link.wants_write
