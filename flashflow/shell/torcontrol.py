"""Opens authenticated stem controllers; blocking, so it is called in a thread or in a process of its own."""

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import stem
import stem.connection
import stem.control
import stem.socket

from flashflow.model.errors import LocalError
from flashflow.model.ids import Address, parse_address

ControlPlace = Path | Address
"""Where a tor takes control connections: a Unix socket, or a TCP port."""

_CONNECT_S: Final = 5.0
"""Longest wait for a TCP connection."""
_POLL_S: Final = 0.05


class _TcpSocket(stem.socket.ControlPort):  # type: ignore[misc]  # stem has no types
    """stem's own knows no IPv6 and waits for ever."""

    def _make_socket(self) -> socket.socket:
        try:
            made = socket.create_connection((self.address, self.port), _CONNECT_S)
        except OSError as exc:
            raise stem.SocketError(exc) from exc
        made.settimeout(None)
        return made


def parse_place(text: str) -> ControlPlace:
    """A path if there is a slash in it, else `host:port`. Raises UsageError."""
    return Path(text) if "/" in text else parse_address(text)


def open_controller(
    place: ControlPlace, *, wait_s: float = 0.0, ended: Callable[[], bool] = lambda: False, name: str = "tor"
) -> stem.control.Controller:
    """Connects to the tor called `name` and authenticates, by cookie or without.

    Tries again for `wait_s` while nothing listens there, unless `ended()`. Raises LocalError.
    """
    deadline_s = time.monotonic() + wait_s
    while True:
        if ended():
            raise LocalError(f"the {name} ended while it started: its own message says why")
        try:
            controller = stem.control.Controller(_socket(place))
        except stem.SocketError as exc:
            if time.monotonic() >= deadline_s:
                raise LocalError(f"{name} at {place}: {exc}") from exc
            time.sleep(_POLL_S)
            continue
        try:
            controller.authenticate()
        except (stem.ControllerError, stem.connection.AuthenticationFailure) as exc:
            close_controller(controller)
            reason = " ".join(str(exc).split())
            raise LocalError(f"{name} at {place}: authentication failed: {reason}") from exc
        return controller


def close_controller(controller: stem.control.Controller) -> None:
    """Closes it, whatever state it is in; joins stem's threads."""
    with contextlib.suppress(Exception):
        controller.close()


def _socket(place: ControlPlace) -> stem.socket.ControlSocket:
    if isinstance(place, Path):
        return stem.socket.ControlSocketFile(str(place))
    return _TcpSocket(place.host, place.port)
