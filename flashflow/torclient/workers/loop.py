"""The worker process: one selector over the control socket and all links."""

import contextlib
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from flashflow.model.errors import LocalError
from flashflow.torclient.core.messages import (
    Begin,
    CircuitEnded,
    FrameReader,
    FromWorker,
    Halt,
    Message,
    OpenCircuits,
    OpenCoord,
    WorkerReady,
    encode_frame,
)
from flashflow.torclient.workers.coordlink import CoordLink
from flashflow.torclient.workers.link import Link, LostLinkError, new_scratch
from flashflow.torclient.workers.share import Share
from flashflow.torclient.workers.tls import client_context

Part = Share | CoordLink


class Worker:
    """Runs until the control socket is closed. `tls_key` is what the coordinator's links present, each as it is then."""

    def __init__(self, control: socket.socket, tls_key: Path | None) -> None:
        self._control = control
        self._frames = FrameReader()
        self._selector = selectors.DefaultSelector()
        self._scratch = new_scratch()
        self._measurer_tls = client_context()
        self._tls_key = tls_key
        self._coord_tls = client_context(tls_key)
        self._parts: dict[int, Part] = {}
        self._links: dict[int, tuple[Link, int]] = {}
        self._alive = True

    def run(self) -> None:
        """The loop."""
        self._selector.register(self._control, selectors.EVENT_READ)
        wait_s: float | None = None
        self._say(WorkerReady())
        while self._alive:
            ready = self._selector.select(wait_s)
            began_s = time.monotonic()
            for key, _ in ready:
                if key.data is None:
                    self._on_control()
                else:
                    part, circ_id = key.data
                    part.ready(circ_id, time.monotonic())
            wait_s = self._pump()
            self._tidy()
            self._nap(began_s, wait_s)
        for part in self._parts.values():
            part.close()

    def _nap(self, began_s: float, wait_s: float | None) -> None:
        """Lets echoes pile up, unless the work took as long anyway: small batches cost twice the CPU."""
        nap_s = min((part.nap_s() for part in self._parts.values()), default=0.0)
        nap_s = min(nap_s, wait_s or 0.0) - (time.monotonic() - began_s)
        if nap_s > 0:
            time.sleep(nap_s)

    def _pump(self) -> float | None:
        waits = [part.pump(time.monotonic()) for part in list(self._parts.values())]
        return min((wait for wait in waits if wait is not None), default=None)

    def _tidy(self) -> None:
        """Forgets what is over, and asks for writability where bytes wait."""
        for run in [run for run, part in self._parts.items() if part.over]:
            del self._parts[run]
        for fd, (link, wanted) in list(self._links.items()):
            if link.stream.sock.fileno() < 0:
                self._selector.unregister(fd)
                del self._links[fd]
                continue
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.wants_write else 0)
            if events != wanted:
                self._selector.modify(fd, events, self._selector.get_key(fd).data)
                self._links[fd] = (link, events)

    def _on_control(self) -> None:
        data = self._control.recv(65_536)
        self._alive = bool(data)
        for message in self._frames.receive(data):
            _HANDLERS[type(message)](self, message)

    def _say(self, message: FromWorker | WorkerReady) -> None:
        try:
            self._control.sendall(encode_frame(message))
        except OSError:  # the control process is gone: so is every reason to go on
            self._alive = False

    def _watch(self, part: Part, circ_id: int, link: Link) -> None:
        fd, events = link.stream.sock.fileno(), selectors.EVENT_READ | selectors.EVENT_WRITE
        self._selector.register(fd, events, (part, circ_id))
        self._links[fd] = (link, events)

    def _open_circuits(self, order: OpenCircuits) -> None:
        self._tidy()  # a closed link's descriptor may be given again
        share = self._parts.get(order.run)
        if not isinstance(share, Share):
            share = Share(order, self._measurer_tls, self._scratch, self._say)
            self._parts[order.run] = share
        for circ_id, link in share.open(order):
            self._watch(share, circ_id, link)

    def _open_coord(self, order: OpenCoord) -> None:
        self._tidy()
        try:
            part = CoordLink(order, self._key_of_now(), self._scratch, self._say)
        except LostLinkError as exc:
            self._say(CircuitEnded(order.run, order.circ_id, exc.code, exc.reason))
            return
        self._parts[order.run] = part
        self._watch(part, order.circ_id, part.link)

    def _key_of_now(self) -> ssl.SSLContext:
        """The key may have been renewed. While its file cannot be used, what was read before goes on."""
        with contextlib.suppress(LocalError):
            self._coord_tls = client_context(self._tls_key)
        return self._coord_tls

    def _begin(self, begin: Begin) -> None:
        share = self._parts.get(begin.run)
        if isinstance(share, Share):
            share.begin(begin)

    def _halt(self, halt: Halt) -> None:
        if (part := self._parts.pop(halt.run, None)) is not None:
            part.close()


_HANDLERS: Final[Mapping[type[Message], Callable[[Worker, Any], None]]] = {
    OpenCircuits: Worker._open_circuits,
    OpenCoord: Worker._open_coord,
    Begin: Worker._begin,
    Halt: Worker._halt,
}
