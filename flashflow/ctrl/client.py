"""Speaks with a coordinator over one blocking TCP connection."""

import contextlib
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

from flashflow.ctrl.access import Access
from flashflow.ctrl.protocol import (
    MAX_REPLY_BYTES,
    CtrlRefusedError,
    Reply,
    ReplyKind,
    encode_command,
    parse_reply,
)
from flashflow.model.errors import NetworkError, PeerError
from flashflow.model.ids import Address

ANSWER_S = 15.0
"""Longest time that a coordinator may take to answer a command."""
EVENT_S = 720.0
"""Longest silence between two events of a measurement that has begun: the longest one and a good deal more."""


class CtrlClient:
    """One authenticated connection."""

    def __init__(self, access: Access, *, answer_s: float = ANSWER_S, event_s: float = EVENT_S) -> None:
        """Connect and show the cookie. Raises NetworkError, LocalError (cookie), CtrlRefusedError."""
        self._address = access.address
        self._answer_s = answer_s
        self._event_s = event_s
        self._socket = _connect(access.address, answer_s)
        self._file = self._socket.makefile("rb")
        try:
            self.request("AUTHENTICATE", access.cookie().hex())
        except BaseException:
            self.close()
            raise

    def request(self, *words: str) -> dict[str, Any]:
        """The coordinator's OK answer to a command. Raises CtrlRefusedError, NetworkError, PeerError, UsageError."""
        line = encode_command(words)
        self._socket.settimeout(self._answer_s)
        try:
            self._socket.sendall(line)
        except OSError as error:
            raise NetworkError(f"the coordinator at {self._address} is gone: {_why(error)}") from None
        reply = self._read()
        if reply.kind is ReplyKind.ERR:
            raise CtrlRefusedError(" ".join(str(reply.body.get("error", "refused")).split()))
        if reply.kind is not ReplyKind.OK:
            raise PeerError(f"the coordinator at {self._address} sent {reply.kind} (expected OK or ERR)")
        return reply.body

    def events(self) -> Iterator[dict[str, Any]]:
        """What follows `measure … wait`, up to and with the event `done`. Raises NetworkError, PeerError.

        A measurement may wait for capacity for hours before its first event; the kernel's keep-alive tells a
        coordinator that is gone.
        """
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket.settimeout(None)
        while True:
            reply = self._read()
            self._socket.settimeout(self._event_s)
            if reply.kind is not ReplyKind.EVENT:
                raise PeerError(f"the coordinator at {self._address} sent {reply.kind} (expected EVENT)")
            yield reply.body
            if reply.body.get("event") == "done":
                return

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> Reply:
        try:
            line = self._file.readline(MAX_REPLY_BYTES)
        except TimeoutError:
            raise NetworkError(
                f"the coordinator at {self._address} did not answer in {self._socket.gettimeout():g} s"
            ) from None
        except OSError as error:
            raise NetworkError(f"the coordinator at {self._address} is gone: {_why(error)}") from None
        if not line.endswith(b"\n"):
            if len(line) >= MAX_REPLY_BYTES:
                raise PeerError(
                    f"the coordinator at {self._address} sent a line above {MAX_REPLY_BYTES} bytes"
                )
            raise NetworkError(f"the coordinator at {self._address} closed the connection")
        return parse_reply(line)


def _connect(address: Address, timeout_s: float) -> socket.socket:
    try:
        return socket.create_connection(address, timeout=timeout_s)
    except ConnectionRefusedError:
        raise NetworkError(f"no coordinator listens at {address}: is flashflow coord running?") from None
    except OSError as error:
        raise NetworkError(f"no coordinator reached at {address}: {_why(error)}") from None


def _why(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
