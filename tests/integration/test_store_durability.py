"""The store in a process of its own: killed after a save, with a full disk, with threads."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flashflow.store.store import Store
from support.records import failed, success

ROOT = Path(__file__).parents[2]

SAVER = """
import sys
from pathlib import Path
from flashflow.store.store import Store
from support.records import success
store = Store.open(Path(sys.argv[1]))
for number in range(1, 10_000):
    store.save(success(number, 100.0 + number))
    print(number, flush=True)
"""

FULL_DISK = """
import resource, sys
from pathlib import Path
from flashflow.model.errors import LocalError
from flashflow.store.store import Store
from support.records import success
store = Store.open(Path(sys.argv[1]))
store.save(success(1, 100.0))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
number = 1
try:
    while number < 10_000:
        store.save(success(number + 1, 100.0 + number))
        number += 1
except LocalError as error:
    print(number, error.reason, flush=True)
assert [r.meas_id for r in store.results(None, 1)] == [number], "what is stored can still be read"
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
store.save(success(number + 1, 100.0 + number))
"""


def start(script: str, path: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", script, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=path.parent)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 60)[0], "the process said nothing"
    return process.stdout.readline()


@pytest.mark.faults
@pytest.mark.parametrize("lines", [1, 2, 25])
def test_what_was_told_to_be_saved_survives_a_kill(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "results.sqlite"
    process = start(SAVER, path)
    with process:
        for _ in range(lines):
            last = int(line_of(process))
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    store = Store.open(path)
    found = store.results(None, 100_000)
    assert len(found) >= last
    assert found == [success(number, 100.0 + number) for number in range(len(found), 0, -1)]
    store.save(success(99_999, 1.0))


def test_a_full_disk_loses_nothing_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    with start(FULL_DISK, path) as process:
        number, _, reason = line_of(process).partition(" ")
        assert process.wait(60) == 0
    assert reason.startswith(f"{path}: results database: ")
    found = Store.open(path).results(None, 100_000)
    assert found[1:] == [success(n, 99.0 + n) for n in range(int(number), 1, -1)] + [success(1, 100.0)]
    assert found[0].meas_id == int(number) + 1


def test_threads_take_turns(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "results.sqlite")
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(first, first + 20):
                store.save((success if number % 2 else failed)(number, float(number)))
                store.latest_results(0.0)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (1, 101, 201)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(store.results(None, 100)) == 60


def test_a_second_process_may_read_while_the_first_writes(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    writer, reader = Store.open(path), Store.open(path)
    writer.save(success(1, 100.0))
    assert reader.results(None, 5) == [success(1, 100.0)]
    reader.save(failed(2, 101.0))
    assert writer.results(None, 5) == [failed(2, 101.0), success(1, 100.0)]
