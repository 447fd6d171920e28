"""Faults in a deployment of real processes: one stack, measurements of 3 s, the same promises after each fault."""

import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from flashflow.model.errors import NetworkError
from support import faulty_measurer
from support.fault_stack import MEASURER, FaultStack, failure_of
from support.waiting import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240), pytest.mark.xdist_group("faults")]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultStack]:
    with FaultStack(tmp_path_factory.mktemp("f")) as stack:
        stack.start()
        yield stack


@pytest.fixture
def stack(running: FaultStack) -> Iterator[FaultStack]:
    """Ready before the fault; after it the promises are checked, and both relays that it hit are measured again."""
    running.ready()
    yield running
    running.check()


def test_a_measurer_is_killed(stack: FaultStack) -> None:
    with stack.measuring(stack.relays[0]) as events:
        stack.child("measurer1").kill()
        fault, reason = failure_of(stack.end_of(events))
    assert (fault, "measurer1 was lost" in reason) == ("measurer", True)
    stack.start_again("measurer1")


@pytest.mark.parametrize("phase", ["launching", "second"])
def test_the_coordinator_is_killed_and_goes_on(stack: FaultStack, phase: str) -> None:
    """It is launched when a restart would know of it, not before."""
    with stack.measuring(stack.relays[0], phase) as events:
        stack.child("coordinator").kill()
        with pytest.raises(NetworkError):
            list(events)
    stack.start_coordinator_again()
    stack.ready()
    row = stack.rows()[stack.last]
    assert (row["failure_fault"], row["failure_reason"]) == (
        "ours",
        "the coordinator ended during the measurement",
    )


def test_a_measurers_torclient_is_killed(stack: FaultStack) -> None:
    with stack.measuring(stack.relays[0]) as events:
        stack.part("measurer1", "torclient").kill()
        fault, _ = failure_of(stack.end_of(events))
    assert fault == "measurer"


def test_the_coordinators_torclient_is_killed(stack: FaultStack) -> None:
    with stack.measuring(stack.relays[0]) as events:
        stack.part("coordinator", "torclient").kill()
        fault, reason = failure_of(stack.end_of(events))
    assert (fault, "Tor client was lost" in reason) == ("ours", True)


def test_a_worker_is_killed(stack: FaultStack) -> None:
    with stack.measuring(stack.relays[0]) as events:
        stack.part("measurer1", "torclient.workers").kill()
        fault, _ = failure_of(stack.end_of(events))
    assert fault == "measurer"


def test_a_relay_is_killed_while_another_is_measured(stack: FaultStack) -> None:
    hit, other = stack.relays[1:]
    stack.measure(hit), stack.measure(other)  # accepted: from now on they need a part of the team only
    with stack.measuring(hit) as events, stack.measuring(other, "launching") as others:
        hit.child.kill()
        fault, _ = failure_of(stack.end_of(events))
        assert stack.end_of(others)["outcome"] == "ok"
    assert fault in ("relay", "network")
    stack.start_relay_again(hit)
    assert stack.measure(stack.relays[1])["outcome"] == "ok"


def test_a_cut_of_two_seconds_costs_nothing(stack: FaultStack) -> None:
    with stack.measuring(stack.relays[0], "second") as events:
        with stack.proxies["measurer1"].cut():
            time.sleep(2)
        done = stack.end_of(events)
    assert done["outcome"] == "ok", done


def test_a_cut_of_ten_seconds_costs_that_measurement_only(stack: FaultStack) -> None:
    with stack.measuring(stack.relays[0]) as events, stack.proxies["measurer1"].cut():
        fault, reason = failure_of(stack.end_of(events))
        assert (fault, "measurer1 was lost" in reason) == ("measurer", True)
        assert stack.measure(stack.relays[1])["outcome"] == "ok", "by the other measurer"


def test_a_link_that_is_half_open(stack: FaultStack) -> None:
    with stack.measuring(stack.relays[0]) as events, stack.proxies["measurer1"].still():
        fault, _ = failure_of(stack.end_of(events))
    assert fault == "measurer"


@pytest.mark.parametrize("name", ["measurer1", "measurer2"])
def test_a_measurer_that_stands_still_for_a_second_is_waited_for(stack: FaultStack, name: str) -> None:
    with stack.measuring(stack.relays[0], "second") as events:
        stack.child(name).signal(signal.SIGSTOP)
        time.sleep(1)
        stack.child(name).signal(signal.SIGCONT)
        assert stack.end_of(events)["outcome"] == "ok"


@pytest.fixture
def break_reports(stack: FaultStack, tmp_path: Path) -> Iterator[Callable[[str], object]]:
    """Says from when on what happens to the reports of `measurer1`, which is another program meanwhile."""
    mode = tmp_path / "mode"
    mode.write_text("none")
    replace_measurer(stack, [sys.executable, faulty_measurer.__file__, str(mode)])
    yield mode.write_text
    replace_measurer(stack, MEASURER)


def replace_measurer(stack: FaultStack, argv: Sequence[str]) -> None:
    stack.child("measurer1").terminate()
    assert stack.child("measurer1").wait(10)
    stack.start_again("measurer1", argv)
    stack.ready()


def test_reports_that_are_doubled_missing_reordered_or_contradicting(
    stack: FaultStack, break_reports: Callable[[str], object]
) -> None:
    """What came twice counts once: the result is what the relay counted."""
    break_reports("doubled")
    assert stack.measure(stack.relays[0])["outcome"] == "ok"
    for mode, what in (
        ("missing", "report 3 (expected 2 of 3)"),
        ("reordered", "report 3 (expected 2 of 3)"),
        ("contradicting", "report 2 (expected 3 of 3)"),
    ):
        break_reports(mode)
        fault, reason = failure_of(stack.measure(stack.relays[0]))
        assert (fault, what in reason) == ("measurer", True), (mode, reason)


def test_a_relay_that_stands_still(stack: FaultStack) -> None:
    relay = stack.relays[2]
    with stack.measuring(relay, "params") as events:
        relay.child.signal(signal.SIGSTOP)
        done = stack.end_of(events)
        relay.child.signal(signal.SIGCONT)
    fault, _ = failure_of(done)
    assert fault in ("relay", "network", "measurer")


def test_a_measurer_that_is_asked_to_leave_finishes_first(stack: FaultStack) -> None:
    with stack.measuring(stack.relays[0]) as events:
        stack.child("measurer1").terminate()
        assert stack.end_of(events)["outcome"] == "ok"
    assert stack.child("measurer1").wait(10)
    stack.start_again("measurer1")


def test_a_coordinator_that_is_asked_to_end_finishes_first(stack: FaultStack) -> None:
    with stack.measuring(stack.relays[0]) as events:
        stack.child("coordinator").terminate()
        assert stack.end_of(events)["outcome"] == "ok"
    assert stack.child("coordinator").wait(10)
    stack.start_coordinator_again()


def test_a_controller_that_goes_disturbs_nothing(stack: FaultStack) -> None:
    with stack.measuring(stack.relays[0]):
        pass
    wait_for(lambda: stack.last in stack.rows(), "it is stored all the same", 30)
    assert stack.rows()[stack.last]["result_bytes"] is not None


def test_a_store_that_cannot_be_written_is_tried_again(stack: FaultStack) -> None:
    """Another process holds the database: SQLite's answer is an error, as for a disk without room."""
    with stack.measuring(stack.relays[0]) as events, closing(sqlite3.connect(stack.database)) as other:
        other.execute("BEGIN IMMEDIATE")
        watching = iter(events)
        event = next(watching)
        while event.get("phase") != "saving":
            event = next(watching)
        log = stack.folder / "logs" / "coordinator.log"
        wait_for(lambda: "could not be stored" in log.read_text(), "the store's error is told", 30)
        other.rollback()
        assert stack.end_of(watching)["outcome"] == "ok"


def test_a_planted_fault_is_found(stack: FaultStack) -> None:
    """The promises are checked against the store as it is: a row less, and a figure a fifth off."""
    done = stack.measure(stack.relays[0])
    assert stack.complaints() == []
    stack.seen[done["meas_id"] + 1] = None
    assert stack.complaints() == [f"{done['meas_id'] + 1} is not in the store"]
    del stack.seen[done["meas_id"] + 1]
    row = stack.rows()[done["meas_id"]]
    assert stack._of_result({**row, "result_bytes": row["result_bytes"] * 4 // 5}) != []
    assert stack._of_file({done["meas_id"]: {**row, "result_bytes": 1}}) != []
