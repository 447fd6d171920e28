"""What strangers do fills no log."""

import logging

import pytest

from flashflow.shell import refusals
from flashflow.shell.refusals import RefusalLog


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told(clock: Clock, caplog: pytest.LogCaptureFixture) -> RefusalLog:
    caplog.set_level(logging.WARNING)
    return RefusalLog(clock)


def test_one_line_a_minute_for_each_kind(
    told: RefusalLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(500):
        told.refused("connection", f"127.0.0.{number % 250}", f"frame of {number} bytes")
    told.refused("connection", "127.0.0.9", "no TLS handshake in time")
    clock.now_s = 59.9
    told.refused("connection", "127.0.0.9", "frame of 1 bytes")
    clock.now_s = 60.1
    told.refused("connection", "127.0.0.9", "frame of 2 bytes")
    assert caplog.messages == [
        "refused a connection from 127.0.0.0: frame of 0 bytes",
        "refused a connection from 127.0.0.9: no TLS handshake in time",
        "refused a connection from 127.0.0.9: frame of 2 bytes (and 500 more like it since the last such line)",
    ]


def test_reasons_without_end_are_one_kind(
    told: RefusalLog, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "MAX_KINDS", 10)
    for number in range(1000):
        told.refused("connection", "127.0.0.1", "reason " + "x" * number)
    assert len(caplog.messages) == 11
    assert len(told._kinds) == 11
    clock.now_s = 61.0
    told.refused("connection", "127.0.0.1", "another")
    assert caplog.messages[-1] == "refused a connection from 127.0.0.1: another"
    assert len(told._kinds) == 1
