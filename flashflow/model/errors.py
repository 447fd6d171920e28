"""Errors carry a kind and a reason; one table (ErrorKind.exit_status, and the cores' tables) maps kind to response."""

from enum import StrEnum


class ErrorKind(StrEnum):
    """Whose fault an error is, which decides what ends because of it."""

    PEER = "peer"  # the other side broke the protocol: its part ends
    NETWORK = "network"  # the path broke: retried where that makes sense
    LOCAL = "local"  # our configuration, files or machine: the operator must act
    BUG = "bug"  # ours: the process stops with a traceback and is started again


class FlashFlowError(Exception):
    """An error with a reason that fits one line: what, where, what was expected."""

    kind = ErrorKind.LOCAL
    exit_status = 1

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PeerError(FlashFlowError):
    """The other side sent what it may not send."""

    kind = ErrorKind.PEER


class NetworkError(FlashFlowError):
    """A connection could not be made or broke."""

    kind = ErrorKind.NETWORK


class LocalError(FlashFlowError):
    """A file, a setting or this machine is not as it has to be."""


class UsageError(LocalError):
    """A wrong command line or configuration: exit status 2."""

    exit_status = 2
