"""Whom the acceptor lets in as time passes, on a clock of the test's; and what becomes of connections it cannot take."""

import asyncio
import errno
import logging
import os
import socket
from types import SimpleNamespace

import pytest

from flashflow.shell import acceptor
from flashflow.shell.acceptor import AcceptLimits, Acceptor
from flashflow.shell.refusals import RefusalLog
from support.both_loops import both_loops


class Full(socket.socket):
    """A listener without a descriptor left for a connection, so many times."""

    failures: int

    def accept(self):
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


@both_loops
async def test_connections_that_cannot_be_taken_fill_no_log_and_are_taken_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "_ACCEPT_PAUSE_S", 0.01)
    caplog.set_level(logging.WARNING)
    log = RefusalLog(lambda: 0.0)
    heard = asyncio.Event()

    def refused(host: str, reason: str) -> None:
        log.refused("connection", host, reason)
        if reason == "connection closed":
            heard.set()

    made = Acceptor(who=lambda _: None, welcome=lambda *_: asyncio.Future(), refused=refused)
    with Full() as listener:
        listener.failures = 20
        listener.settimeout(0)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        made.start([listener])
        with socket.create_connection(listener.getsockname()) as stranger:
            stranger.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(10):
                await heard.wait()
        made.close()
    assert caplog.messages == [
        "refused a connection from an unknown address: cannot accept it: too many open files",
        "refused a connection from 127.0.0.1: connection closed",
    ]
    assert [record.name for record in caplog.records] == ["flashflow.shell.refusals"] * 2


def test_strangers_earn_handshakes_together_and_for_each_address(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(acceptor, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    made = Acceptor(
        who=lambda _: None,
        welcome=lambda *_: asyncio.Future(),
        refused=lambda *_: None,
        limits=AcceptLimits(strangers_burst=40, strangers_per_s=20.0, host_burst=12, host_per_s=4.0),
    )

    def let_in(host: str, knocks: int = 100) -> int:
        waiting = SimpleNamespace(host=host)
        return sum(made._may_shake_hands(waiting, None) for _ in range(knocks))

    assert [let_in(f"192.0.2.{n}") for n in range(1, 6)] == [12, 12, 12, 4, 0]
    assert [sum_of_a_second(clock, lambda: let_in("192.0.2.1")) for _ in range(3)] == [4, 4, 4]
    others = [f"198.51.100.{n}" for n in range(1, 200)]
    clock.now_s += 3600.0
    assert sum(let_in(host, 1) for host in others) == 40
    assert sum_of_a_second(clock, lambda: sum(let_in(host, 1) for host in others)) == 20


def sum_of_a_second(clock, knock) -> int:
    """What gets in when it knocks every hundredth of a second."""
    count = 0
    for _ in range(100):
        clock.now_s += 0.01
        count += knock()
    return count
