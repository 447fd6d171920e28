"""The relay's process: listening sockets, links, timers, one epoll loop."""

import logging
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Final

from flashflow.model.clock import Now
from flashflow.model.errors import LocalError, NetworkError, PeerError
from flashflow.model.ids import Address
from flashflow.model.units import from_mbps
from flashflow.orlink.authenticate import AuthSecrets
from flashflow.orlink.keys import RelayKeys, make_link_certificate
from flashflow.orlink.link import ResponderHandshake
from flashflow.relay.circuits import Services
from flashflow.relay.core.bucket import TokenBucket
from flashflow.relay.core.effects import Role
from flashflow.relay.core.events import LinkLost
from flashflow.relay.core.state import State
from flashflow.relay.counting import Counter, CountsFile
from flashflow.relay.echo import Echo
from flashflow.relay.lanes import Lane
from flashflow.relay.link import Link, Stage
from flashflow.relay.measuring import BackgroundMeter, Measuring
from flashflow.relay.settings import RelaySettings
from flashflow.relay.tls import TlsStream, server_context

log = logging.getLogger(__name__)

MAX_STRANGERS: Final = 512
"""Links of no role; one more and the oldest of them goes."""
MAX_ACCEPTS: Final = 8
"""New links in one go, so that a flood of them does not hold up the others."""
MAX_FILES: Final = 4096
SWEEP_S: Final = 0.25
RATE_FILE: Final = "rate_mbps"
_DAY_S: Final = 86_400.0
_EDGES: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_GONE: Final = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP


class RelayServer:
    """One relay. What tests replace in order to cheat: the make_* methods and `role_changed`."""

    def __init__(self, settings: RelaySettings, keys: RelayKeys) -> None:
        now = read_now()
        self.settings: Final = settings
        self.keys: Final = keys
        self.link_certificate: Final = make_link_certificate(now.utc_s - 2 * _DAY_S, now.utc_s + 30 * _DAY_S)
        self._context = server_context(self.link_certificate)
        self._counter = self.make_counter()
        self._counts = CountsFile(settings.counts, self._counter, now)
        self._readers = Lane(TokenBucket(settings.rate_bytes, now.mono_s), self._read, _wants_read)
        self._writers = Lane(TokenBucket(settings.rate_bytes, now.mono_s), self._write, _wants_write)
        self._measuring = Measuring(
            self.make_core(),
            self,
            settings.background_ratio,
            lambda: self._readers.bucket.rate_bytes,
            self.make_meter(),
            read_now,
        )
        self.services: Final = self._make_services()
        self._epoll = select.epoll()
        self._listeners: dict[int, socket.socket] = {}
        self._links: dict[int, Link] = {}
        self._by_fd: dict[int, Link] = {}
        self._last_number = 0
        self._sweep_s = now.mono_s
        self._running = True
        self._stopped_by: int | None = None
        self._hung_up = False
        self._wake_ends = _wake_pair()
        self._epoll.register(self._wake_ends[0].fileno(), select.EPOLLIN | select.EPOLLET)
        _raise_file_limit()

    def make_core(self) -> State:
        """The core that decides about measurements."""
        return State(self.settings.rules)

    def make_counter(self) -> Counter:
        """What counts bytes on the sockets."""
        return Counter()

    def make_meter(self) -> BackgroundMeter:
        """What counts background traffic for the reports."""
        return BackgroundMeter()

    def make_echo(self) -> Echo:
        """What answers runs of cells."""
        return Echo()

    def make_handshake(self, link: Link) -> ResponderHandshake:
        """The link handshake for a new link."""
        return ResponderHandshake(
            keys=self.keys,
            link_certificate_der=self.link_certificate.certificate_der,
            peer_ip=link.host,
            own_ips=[address.host for address in self.settings.listen],
            auth_challenge=os.urandom(32),
            now_utc_s=time.time(),
            tls_secrets=AuthSecrets(link.stream.export),
        )

    def listen(self) -> tuple[Address, ...]:
        """Begins to listen, and says where. LocalError if an address is not to be had."""
        for address in self.settings.listen:
            listener = _listening_socket(address)
            self._listeners[listener.fileno()] = listener
            self._epoll.register(listener.fileno(), select.EPOLLIN)
        names = [listener.getsockname() for listener in self._listeners.values()]
        return tuple(Address(name[0], name[1]) for name in names)

    def watch_signals(self) -> None:
        """SIGTERM and SIGINT end run(), SIGHUP reads the rate file; from the main thread only."""
        # Handlers only note the signal; the byte in the socket pair ends epoll's wait.
        signal.set_wakeup_fd(self._wake_ends[1].fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def stop(self) -> None:
        """Ends run(), from any thread."""
        self._running = False
        self._wake_ends[1].send(b"\0")

    def run(self) -> int | None:
        """Serves until SIGTERM or SIGINT, and says which it was; None after stop()."""
        try:
            while self._running:
                self._turn(self._wait())
                if self._hung_up:
                    self._hung_up = False
                    self._reread_rate()
        finally:
            self._close_all()
        return self._stopped_by

    def find(self, number: int) -> Link | None:
        """The link of that number, if it still lives."""
        return self._links.get(number)

    def wake(self, link: Link) -> None:
        """Something was queued on the link."""
        self._writers.add(link)

    def drop(self, link: Link, reason: str) -> None:
        """Closes the link at once."""
        if self._links.pop(link.number, None) is None:
            return
        level = logging.DEBUG if link.role is Role.STRANGER else logging.INFO
        log.log(level, "link %d from %s: %s", link.number, link.host, reason)
        del self._by_fd[link.stream.fileno()]
        link.close()
        self._measuring.post(LinkLost(link.number))

    def role_changed(self, link: Link) -> None:
        """The link is something else to us now."""
        log.info("link %d from %s is now %s", link.number, link.host, link.role)

    def _make_services(self) -> Services:
        return Services(
            node_id=self.keys.identity.rsa_fingerprint,
            ntor_private=self.keys.ntor_private,
            commands=self.settings.commands,
            loop=self.settings.loop,
            echo=self.make_echo(),
            random=os.urandom,
            post=self._measuring.post,
        )

    def _turn(self, events: Iterable[tuple[int, int]]) -> None:
        for fd, mask in events:
            self._on_socket(fd, mask)
        now = read_now()
        self._measuring.tick(now.mono_s)
        self._counts.tick(now)
        self._sweep(now.mono_s)
        self._readers.serve(now.mono_s, self._measuring.may_read(now.mono_s))
        self._writers.serve(now.mono_s, self._measuring.may_write())

    def _wait(self) -> list[tuple[int, int]]:
        """Waits until there is something to do, and gives the sockets' events."""
        now_s = time.monotonic()
        moments = (self._sweep_s, self._measuring.core.next_timer(), self._counts.next_s)
        wait_s = max(0.0, min(moment - now_s for moment in moments if moment is not None))
        capped = self._measuring.capped
        lanes = (self._readers.wait_s(now_s, capped), self._writers.wait_s(now_s, capped=False))
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
        link.readable = link.writable = (
            True  # TLS may want to write in order to read, and the other way round
        )
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
        if sum(link.role is Role.STRANGER for link in self._links.values()) >= MAX_STRANGERS:
            self._drop_oldest_stranger("too many links")
        self._last_number += 1
        stream = TlsStream(self._context, sock)
        link = Link(
            self._last_number,
            host,
            stream,
            self._counter,
            self.services,
            self.make_handshake,
            time.monotonic(),
        )
        self._links[link.number] = self._by_fd[stream.fileno()] = link
        self._epoll.register(stream.fileno(), _EDGES)
        self._readers.add(link)

    def _drop_oldest_stranger(self, reason: str) -> None:
        oldest = next((link for link in self._links.values() if link.role is Role.STRANGER), None)
        if oldest is not None:
            self.drop(oldest, reason)

    def _read(self, link: Link, limit_bytes: int) -> int:
        if link.closing:
            return 0
        count = 0
        try:
            count = link.read(limit_bytes)
        except (PeerError, NetworkError) as exc:
            self.drop(link, exc.reason)
        self._measuring.was_read(link, count, time.monotonic())
        self._writers.add(link)
        return count

    def _write(self, link: Link, limit_bytes: int) -> int:
        count = 0
        try:
            count = link.write(limit_bytes)
        except NetworkError as exc:
            self.drop(link, exc.reason)
        self._measuring.was_written(link, count)
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

    def _reread_rate(self) -> None:
        rate_bytes = read_rate(self.settings.data_dir / RATE_FILE)
        if rate_bytes is not None:
            now_s = time.monotonic()
            self._readers.bucket.set_rate(rate_bytes, now_s)
            self._writers.bucket.set_rate(rate_bytes, now_s)
            log.info("rate is now %g bytes/s", rate_bytes)

    def _close_all(self) -> None:
        for listener in self._listeners.values():
            listener.close()
        for link in list(self._links.values()):
            self.drop(link, "the relay ends")
        self._counts.close(read_now())
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
        for end in self._wake_ends:
            end.close()
        self._epoll.close()


def read_now() -> Now:
    """Both clocks, now."""
    return Now(time.monotonic(), time.time())


def read_rate(path: Path) -> float | None:
    """The rate in a file that holds Mbit/s as one number, in bytes/s; None, and a line in the log, if it does not."""
    try:
        mbps = float(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        log.warning("rate file %s: %s (a number of Mbit/s expected)", path, exc)
        return None
    if not 0.1 <= mbps <= 1e6:
        log.warning("rate file %s: %g Mbit/s (0.1 to 1000000 expected)", path, mbps)
        return None
    return float(from_mbps(mbps))


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


def _wants_read(link: Link) -> bool:
    return link.wants_read


def _wants_write(link: Link) -> bool:
    return link.wants_write
