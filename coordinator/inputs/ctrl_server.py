"""The control socket: lines in, one answer a line out (docs/protocol.md, "Control socket").

The first line must show the cookie. Whoever sends too much, too long a line, or not the cookie in time is told so in
one line and closed; nobody else notices. Those who have not shown the cookie make room for each other, the oldest first,
so that they keep out nobody who has it; of one controller's lines a few are taken before the others have their turn.
"""

import asyncio
import hmac
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from coordinator.core.effects import CloseCtrl, SendToCtrl
from coordinator.core.events import CtrlClosed, CtrlSaid
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address
from flashflow.shell.files import write_private
from flashflow.shell.refusals import RefusalLog

MAX_LINE_BYTES = 4096
MAX_CONNECTIONS = 64
"""Controllers that have shown the cookie."""
MAX_STRANGERS = 64
"""Connections that have not, yet."""
LINES_A_TURN = 16
AUTHENTICATE_WITHIN_S = 10.0
MAX_UNSENT_BYTES = 1 << 20
COOKIE_FILE = "control_auth_cookie"


class CtrlServer:
    """Listens for controllers; `post` takes CtrlSaid and CtrlClosed."""

    def __init__(
        self,
        cookie: bytes,
        post: Callable[[CtrlSaid | CtrlClosed], None],
        refusals: RefusalLog | None = None,
    ) -> None:
        self.cookie = cookie
        self.post = post
        self.refusals = refusals or RefusalLog(time.monotonic)
        self.conns: dict[int, _Connection] = {}
        """Those who have shown the cookie."""
        self.strangers: dict[int, _Connection] = {}
        """Those who have not, the oldest first."""
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
        for conn in (*self.conns.values(), *self.strangers.values()):
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
        self._buffer = bytearray()
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        strangers = self._server.strangers
        if len(strangers) >= MAX_STRANGERS:
            strangers[next(iter(strangers))].refuse("others wait that have not shown the cookie either")
        strangers[self._conn] = self
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(AUTHENTICATE_WITHIN_S, self.refuse, "no AUTHENTICATE in time")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._take_lines()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._server.strangers.pop(self._conn, None)
        if self._server.conns.pop(self._conn, None) is not None:
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

    def refuse(self, reason: str) -> None:
        """Tell why, and close."""
        peer = self._transport.get_extra_info("peername") if self._transport else None
        self._server.refusals.refused("controller", peer[0] if peer else "?", reason)
        self.write("ERR", {"error": reason})
        self._server.strangers.pop(self._conn, None)
        self._buffer.clear()
        self.close()

    def _take_lines(self) -> None:
        """A few at a time: what is left is taken after the others' turn, and nothing more is read until then."""
        for _ in range(LINES_A_TURN):
            end = self._buffer.find(b"\n")
            if end < 0 or not self._open():
                break
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._take_line(line.removesuffix(b"\r"))
        if not self._open() or self._transport is None:
            self._buffer.clear()
        elif b"\n" in self._buffer:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._take_lines)
        elif len(self._buffer) > MAX_LINE_BYTES:
            self.refuse(f"line too long (at most {MAX_LINE_BYTES} bytes)")
        else:
            self._transport.resume_reading()

    def _take_line(self, line: bytes) -> None:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            text = ""
            problem = f"not UTF-8 (byte {error.start} of the line)"
        else:
            problem = "line too long" if len(line) > MAX_LINE_BYTES else ""
        if self._conn in self._server.strangers:
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
            self.refuse(f"authentication failed: send AUTHENTICATE and {COOKIE_FILE}'s 32 bytes in hex")
            return
        if len(self._server.conns) >= MAX_CONNECTIONS:
            self.refuse(f"{MAX_CONNECTIONS} controllers are connected already")
            return
        self._server.conns[self._conn] = self._server.strangers.pop(self._conn)
        if self._deadline is not None:
            self._deadline.cancel()
        self.write("OK", {})


def make_cookie(datadir: Path) -> bytes:
    """A new cookie in DATADIR/control_auth_cookie, mode 0600. Raises LocalError."""
    cookie = secrets.token_bytes(32)
    write_private(datadir / COOKIE_FILE, cookie)
    return cookie
