"""kill -9 of any parent: no process of its, and no traffic, is left after 2 s."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from flashflow.demo.child import Child
from flashflow.shell.parent import own_command
from flashflow.testnet.counts import read_counts
from support.processes import left_of
from support.stack import deployment
from support.waiting import wait_for

pytestmark = pytest.mark.faults

LEFT_S = 2.0
"""How long anything may go on."""


def kill_and_watch(process: psutil.Process) -> list[psutil.Process]:
    """SIGKILL it; which of its descendants are still there after LEFT_S."""
    family = process.children(recursive=True)
    assert family
    process.kill()
    return left_of(family, LEFT_S)


def psutil_of(child: Child) -> psutil.Process:
    return psutil.Process(child.pid)


def test_services_that_are_killed_while_they_measure(tmp_path: Path) -> None:
    with deployment(tmp_path, [20], 60) as running:
        (relay,) = running.relays
        with running.ctrl() as client:
            client.request("measure", relay.fingerprint, "wait")
            events = client.events()
            while next(events)["event"] != "second":
                pass
            for name in ("measurer1", "measurer2"):
                assert not kill_and_watch(psutil_of(running.child(name)))
            quiet_utc_s = time.time() + LEFT_S
            *_, done = events
        assert done["outcome"] == "failed"
        assert done["failure"]["kind"] == "network"
        wait_for(lambda: read_counts(relay.counts)[-1].utc_s > quiet_utc_s + 2, "a count of later")
        quiet, *_, last = (count for count in read_counts(relay.counts) if count.utc_s > quiet_utc_s)
        assert last.read_bytes - quiet.read_bytes < 20_000  # a token bucket's worth that was on its way
        with running.ctrl() as client:
            wait_for(lambda: client.request("status")["measurers"] == 0, "it goes on, and notices", 10)
        assert not kill_and_watch(psutil_of(running.child("coordinator")))


def test_a_demo_that_is_killed(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    temp = tmp_path_factory.mktemp("temp")
    demo = subprocess.Popen(
        own_command("demo", "--rates", "8", "--duration", "60", "--out", str(tmp_path / "out")),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temp)},
    )
    assert demo.stdout is not None
    while "second" not in (line := demo.stdout.readline()):
        assert line, "the demo ended too early"
    assert not kill_and_watch(psutil.Process(demo.pid))
    assert demo.wait() == -signal.SIGKILL
    demo.stdout.close()


def test_a_demo_that_is_killed_while_it_starts(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    temp = tmp_path_factory.mktemp("temp")
    demo = subprocess.Popen(
        own_command("demo", "--rates", "8", "--out", str(tmp_path / "out")),
        stdout=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(temp)},
    )
    process = psutil.Process(demo.pid)
    wait_for(lambda: demo.poll() is not None or process.children(), "it starts a process")
    assert demo.poll() is None
    assert not kill_and_watch(process)
    assert demo.wait() == -signal.SIGKILL
