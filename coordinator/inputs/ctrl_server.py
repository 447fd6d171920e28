"""The control socket: lines in, one answer a line out (docs/protocol.md, "Control socket").

The first line must show the cookie. Whoever sends too much, too long a line, or not the cookie in time is told so in
one line and closed; nobody else notices.
"""

import asyncio
import hmac
import json
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from coordinator.core.effects import CloseCtrl, SendToCtrl
from coordinator.core.events import CtrlClosed, CtrlSaid
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address
from flashflow.shell.files import write_private

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 4096
MAX_CONNECTIONS = 64
AUTHENTICATE_WITHIN_S = 10.0
MAX_UNSENT_BYTES = 1 << 20
COOKIE_FILE = "control_auth_cookie"


class CtrlServer:
    """Listens for controllers; `post` takes CtrlSaid and CtrlClosed."""

    def __init__(self, cookie: bytes, post: Callable[[CtrlSaid | CtrlClosed], None]) -> None:
        self.cookie = cookie
        self.post = post
        self.conns: dict[int, _Connection] = {}
        self._last_conn = 0
        self._server: asyncio.Server | None = None

    async def start(self, addr: Address) -> Address:
        """Listen and say where. Raises LocalError if that cannot be."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Connection(self), addr.host, addr.port)
        except OSError as error:
            reason = error.strerror or str(error)
            raise LocalError(
                f"cannot listen for controllers at {addr} ([coord] ctrl_addr): {reason}"
            ) from error
        return Address(*self._server.sockets[0].getsockname()[:2])

    def send(self, effect: SendToCtrl) -> None:
        """Write one line."""
        if conn := self.conns.get(effect.conn):
            conn.write(effect.kind, effect.data)

    def close_conn(self, effect: CloseCtrl) -> None:
        """Close one connection once what was written is out."""
        if conn := self.conns.get(effect.conn):
            conn.close()

    async def close(self) -> None:
        """Stop listening, close every connection."""
        if self._server is not None:
            self._server.close()
        for conn in list(self.conns.values()):
            conn.close()

    def new_conn(self) -> int:
        """The next connection's number."""
        self._last_conn += 1
        return self._last_conn


class _Connection(asyncio.Protocol):
    def __init__(self, server: CtrlServer) -> None:
        self._server = server
        self._conn = server.new_conn()
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._authenticated = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        if len(self._server.conns) >= MAX_CONNECTIONS:
            self._refuse(f"{MAX_CONNECTIONS} controllers are connected already")
            return
        self._server.conns[self._conn] = self
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(AUTHENTICATE_WITHIN_S, self._refuse, "no AUTHENTICATE in time")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._open() and b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            self._take_line(line.removesuffix(b"\r"))
        if len(self._buffer) > MAX_LINE_BYTES:
            self._refuse(f"line too long (at most {MAX_LINE_BYTES} bytes)")

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._server.conns.pop(self._conn, None) is not None and self._authenticated:
            self._server.post(CtrlClosed(self._conn))

    def write(self, kind: str, data: dict[str, Any]) -> None:
        """One line; a controller that does not read is closed."""
        if not self._open() or self._transport is None:
            return
        self._transport.write(f"{kind} {json.dumps(data)}\n".encode())
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._transport.abort()

    def close(self) -> None:
        """Close after what was written."""
        if self._transport is not None:
            self._transport.close()

    def _open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def _refuse(self, reason: str) -> None:
        peer = self._transport.get_extra_info("peername") if self._transport else None
        log.warning("refused a controller at %s: %s", peer[0] if peer else "?", reason)
        self.write("ERR", {"error": reason})
        self._buffer = b""
        self.close()

    def _take_line(self, line: bytes) -> None:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            text = ""
            problem = f"not UTF-8 (byte {error.start} of the line)"
        else:
            problem = "line too long" if len(line) > MAX_LINE_BYTES else ""
        if not self._authenticated:
            self._authenticate(text)
        elif problem:
            self.write("ERR", {"error": problem})
        else:
            self._server.post(CtrlSaid(self._conn, text))

    def _authenticate(self, line: str) -> None:
        word, _, shown = line.strip().partition(" ")
        expected = self._server.cookie.hex()
        if word.upper() != "AUTHENTICATE" or not hmac.compare_digest(
            shown.lower().encode(), expected.encode()
        ):
            self._refuse(f"authentication failed: send AUTHENTICATE and {COOKIE_FILE}'s 32 bytes in hex")
            return
        self._authenticated = True
        if self._deadline is not None:
            self._deadline.cancel()
        self.write("OK", {})


def make_cookie(datadir: Path) -> bytes:
    """A new cookie in DATADIR/control_auth_cookie, mode 0600. Raises LocalError."""
    cookie = secrets.token_bytes(32)
    write_private(datadir / COOKIE_FILE, cookie)
    return cookie
