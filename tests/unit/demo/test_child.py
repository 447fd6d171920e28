"""One process of a deployment."""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flashflow.demo.child import Child, ChildFailedError, stop_all
from flashflow.model.errors import LocalError

WAIT = "import signal; signal.pause()"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready'); {WAIT}"

Start = Callable[[str], Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Child] = []

    def run(code: str) -> Child:
        started.append(Child(f"child{len(started) or ''}", [sys.executable, "-uc", code], tmp_path))
        return started[-1]

    yield run
    stop_all(started, 0)


def test_ready_gives_the_words_after_it(start: Start) -> None:
    child = start(f"print('hello'); print('ready 127.0.0.1:1 AB'); {WAIT}")
    assert child.wait_ready() == ["127.0.0.1:1", "AB"]
    assert child.alive


def test_last_words_of_a_process_that_ends_count(start: Start) -> None:
    child = start("print('ready x')")
    assert child.wait(10)
    assert child.wait_ready() == ["x"]


def test_a_process_that_ends_early_is_named_and_its_log_is_there(start: Start) -> None:
    child = start("import sys; sys.exit('the port is in use')")
    with pytest.raises(ChildFailedError, match="child ended with status 1 before it was ready") as failed:
        child.wait_ready()
    assert failed.value.child.tail() == "the port is in use"


def test_half_a_ready_line_is_not_ready(start: Start) -> None:
    child = start(f"print('ready 127.0.0.1:', end='', flush=True); {WAIT}")
    with pytest.raises(ChildFailedError, match=r"not ready within 0\.1 s"):
        child.wait_ready(0.1)


def test_the_tail_is_the_last_lines(start: Start) -> None:
    child = start("import sys; [print(n, file=sys.stderr) for n in range(100)]")
    assert child.wait(10)
    assert child.tail(3) == "97\n98\n99"


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"cannot start gone \(/nonexistent/program\): No such file"):
        Child("gone", ["/nonexistent/program"], tmp_path)


def test_who_does_not_end_when_asked_is_ended(start: Start) -> None:
    polite, stubborn = start(f"print('ready'); {WAIT}"), start(STUBBORN)
    polite.wait_ready()
    stubborn.wait_ready()
    stop_all([polite, stubborn], 0.3)
    assert polite.returncode == -signal.SIGTERM
    assert stubborn.returncode == -signal.SIGKILL
