"""The control socket: one `ControlSession` per connection; commands of ours become events for the core."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from flashflow.model.errors import LocalError
from flashflow.torclient.core.effects import Announce, Answer
from flashflow.torclient.core.events import CommandReceived, ControlClosed
from flashflow.torctl.replies import reply
from flashflow.torctl.session import Action, Close, ControlSession, EndProcess, Facts, Run, SendBytes

MAX_OUTBOUND_BYTES: Final = 1 << 20
"""A controller that does not read this much of its replies and events is cut off."""


class ControlServer:
    """Listens on a Unix socket. `post` takes the core's events, `on_stop` is called when the process shall end."""

    def __init__(self, facts: Facts, post: Callable[[object], None], on_stop: Callable[[], None]) -> None:
        self._facts = facts
        self._post = post
        self._on_stop = on_stop
        self._connections: dict[int, _Connection] = {}
        self._last_conn = 0
        self._server: asyncio.AbstractServer | None = None

    async def start(self, path: Path) -> None:
        """Begins to listen. Raises LocalError."""
        try:
            path.unlink(missing_ok=True)  # noqa: ASYNC240 - once, before anything runs
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(self._accept, path)
            path.chmod(0o600)  # noqa: ASYNC240
        except OSError as exc:
            raise LocalError(f"cannot listen on the control socket {path}: {exc.strerror or exc}") from exc

    def close(self) -> None:
        """Stops listening and closes all connections."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections.values()):
            connection.abort()

    def answer(self, effect: Answer) -> None:
        """Replies to a command."""
        if (connection := self._connections.get(effect.conn)) is not None:
            connection.send(reply(effect.code, effect.text))

    def announce(self, effect: Announce) -> None:
        """Sends an event to whoever asked for it."""
        for connection in list(self._connections.values()):
            connection.send(connection.session.event(effect.event))

    def _accept(self) -> "_Connection":
        self._last_conn += 1
        connection = _Connection(self, self._last_conn, ControlSession(self._facts))
        self._connections[self._last_conn] = connection
        return connection

    def act(self, connection: "_Connection", action: Action) -> None:
        """Does what a session wants."""
        match action:
            case SendBytes(data):
                connection.send(data)
            case Run(command):
                self._post(CommandReceived(connection.conn, command))
            case Close():
                connection.end()
            case EndProcess():
                self._on_stop()

    def gone(self, connection: "_Connection") -> None:
        """A connection is closed: what it began stops."""
        del self._connections[connection.conn]
        self._post(ControlClosed(connection.conn))
        if connection.session.owns_process:
            self._on_stop()


class _Connection(asyncio.Protocol):
    def __init__(self, server: ControlServer, conn: int, session: ControlSession) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self.conn = conn
        self.session = session

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop does not subclass it

    def data_received(self, data: bytes) -> None:
        for action in self.session.receive(data):
            self._server.act(self, action)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.gone(self)

    def send(self, data: bytes) -> None:
        if self._transport is None or not data:
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_OUTBOUND_BYTES:
            self._transport.abort()

    def end(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
