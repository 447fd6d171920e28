"""The server side of one control connection (control-spec 3): what stem's Controller needs, and our commands.

`ControlSession.receive` gives what is to be done, in order: bytes to send, commands for the core, signals.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from flashflow.torctl.arguments import CommandError
from flashflow.torctl.commands import NAMES, Command, parse_command
from flashflow.torctl.events import Event
from flashflow.torctl.lines import LineError, LineReader
from flashflow.torctl.replies import ok, quoted, reply

TOR_VERSION: Final = "0.4.8.1-flashflow"
"""Looks like a tor's, so that stem can compare it."""
EVENTS: Final = frozenset(
    {"CIRC", "FF_MEAS", "SIGNAL", "CONF_CHANGED", "STATUS_SERVER", "STATUS_CLIENT", "NOTICE", "WARN", "ERR"}
)
"""Events that SETEVENTS accepts; stem's Controller asks for some that never come."""
STOP_SIGNALS: Final = frozenset({"INT", "TERM", "SHUTDOWN", "HALT"})
_OTHER_SIGNALS: Final = frozenset(
    {
        "HUP",
        "RELOAD",
        "USR1",
        "DUMP",
        "USR2",
        "DEBUG",
        "NEWNYM",
        "CLEARDNSCACHE",
        "HEARTBEAT",
        "ACTIVE",
        "DORMANT",
    }
)
_BEFORE_AUTHENTICATION: Final = frozenset({"PROTOCOLINFO", "AUTHENTICATE", "QUIT"})


@dataclass(frozen=True, slots=True)
class SendBytes:
    """Send to this connection."""

    data: bytes
    """One or more whole lines."""


@dataclass(frozen=True, slots=True)
class Run:
    """A command of ours for the core, which replies."""

    command: Command
    """The command."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close this connection after what was sent before."""


@dataclass(frozen=True, slots=True)
class EndProcess:
    """A signal that ends the process."""


Action = SendBytes | Run | Close | EndProcess


@dataclass(frozen=True, slots=True)
class Facts:
    """What the session may tell about the process."""

    cookie: bytes
    """Authentication cookie, 32 bytes."""
    cookie_path: str
    """Where a controller finds it."""
    info: Mapping[str, str]
    """GETINFO keys and their values."""
    conf: Mapping[str, str]
    """GETCONF keys and their values; an empty value means the default."""


class ControlSession:
    """One connection."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._reader = LineReader()
        self._authenticated = False
        self._closed = False
        self._events: frozenset[str] = frozenset()
        self.owns_process = False
        """TAKEOWNERSHIP was given: the process ends when this connection closes."""

    def receive(self, data: bytes) -> list[Action]:
        """Takes bytes that arrived; never raises."""
        actions: list[Action] = []
        self._reader.feed(data)
        while not self._closed:
            try:
                line = self._reader.next()
            except LineError as exc:
                actions += self._refuse(500, f"Syntax error: {exc.reason}")
                break
            if line is None:
                break
            actions += self._take(line)
        return actions

    def event(self, event: Event) -> bytes:
        """The event as bytes for this connection; empty if it did not ask for it."""
        text = event.line()
        wanted = self._authenticated and text.split(" ", 1)[0] in self._events
        return reply(650, text) if wanted and not self._closed else b""

    def _take(self, line: str) -> list[Action]:
        words = line.split()
        name = words[0].upper() if words else ""
        if not self._authenticated and name not in _BEFORE_AUTHENTICATION:
            return self._refuse(514, "Authentication required.")
        if name in NAMES:
            return self._run(line)
        handler = _HANDLERS.get(name)
        if handler is None:
            return _send(reply(510, f"Unrecognized command {quoted(name[:40])}"))
        return handler(self, words[1:])

    def _run(self, line: str) -> list[Action]:
        try:
            return [Run(parse_command(line))]
        except CommandError as exc:
            return _send(reply(exc.code, exc.reason))

    def _refuse(self, code: int, text: str) -> list[Action]:
        self._closed = True
        return [SendBytes(reply(code, text)), Close()]

    def _protocolinfo(self, words: list[str]) -> list[Action]:
        if not all(word.isdigit() for word in words):
            return self._refuse(513, "PROTOCOLINFO takes version numbers")
        cookie = f"AUTH METHODS=COOKIE COOKIEFILE={quoted(self._facts.cookie_path)}"
        return _send(ok(("PROTOCOLINFO 1", cookie, f"VERSION Tor={quoted(TOR_VERSION)}")))

    def _authenticate(self, words: list[str]) -> list[Action]:
        try:
            given = bytes.fromhex(words[0]) if len(words) == 1 else b""
        except ValueError:
            given = b""
        if not hmac.compare_digest(given, self._facts.cookie):
            return self._refuse(515, "Authentication failed: the cookie of this process was expected")
        self._authenticated = True
        return _send(ok())

    def _getinfo(self, words: list[str]) -> list[Action]:
        unknown = [word for word in words if word not in self._facts.info]
        if unknown:
            return _send(reply(552, f"Unrecognized key {quoted(unknown[0][:80])}"))
        return _send(ok([f"{word}={self._facts.info[word]}" for word in words]))

    def _getconf(self, words: list[str]) -> list[Action]:
        known = {key.lower(): key for key in self._facts.conf}
        unknown = [word for word in words if word.lower() not in known]
        if unknown:
            return _send(
                reply(552, *(f"Unrecognized configuration key {quoted(word[:80])}" for word in unknown))
            )
        if not words:
            return _send(ok())
        return _send(reply(250, *(_setting(known[word.lower()], self._facts.conf) for word in words)))

    def _setevents(self, words: list[str]) -> list[Action]:
        names = [word.upper() for word in words if word.upper() != "EXTENDED"]
        unknown = [name for name in names if name not in EVENTS]
        if unknown:
            return _send(reply(552, f"Unrecognized event {quoted(unknown[0][:40])}"))
        self._events = frozenset(names)
        return _send(ok())

    def _takeownership(self, words: list[str]) -> list[Action]:
        self.owns_process = True
        return _send(ok())

    def _resetconf(self, words: list[str]) -> list[Action]:
        unknown = [word for word in words if word.lower() != "__owningcontrollerprocess"]
        return _send(reply(552, f"Unrecognized option {quoted(unknown[0][:80])}") if unknown else ok())

    def _signal(self, words: list[str]) -> list[Action]:
        name = words[0].upper() if len(words) == 1 else ""
        if name in STOP_SIGNALS:
            return [SendBytes(ok()), EndProcess()]
        if name in _OTHER_SIGNALS:
            return _send(ok())
        return _send(reply(552, f"Unrecognized signal code {quoted(name[:40])}"))

    def _quit(self, words: list[str]) -> list[Action]:
        self._closed = True
        return [SendBytes(reply(250, "closing connection")), Close()]


def _send(data: bytes) -> list[Action]:
    return [SendBytes(data)]


def _setting(key: str, conf: Mapping[str, str]) -> str:
    return f"{key}={conf[key]}" if conf[key] else key


_HANDLERS: Final[Mapping[str, Callable[[ControlSession, list[str]], list[Action]]]] = {
    "PROTOCOLINFO": ControlSession._protocolinfo,
    "AUTHENTICATE": ControlSession._authenticate,
    "GETINFO": ControlSession._getinfo,
    "GETCONF": ControlSession._getconf,
    "RESETCONF": ControlSession._resetconf,
    "SETEVENTS": ControlSession._setevents,
    "TAKEOWNERSHIP": ControlSession._takeownership,
    "SIGNAL": ControlSession._signal,
    "QUIT": ControlSession._quit,
}
