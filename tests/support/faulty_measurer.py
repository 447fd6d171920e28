"""A measurer whose reports go wrong: `python faulty_measurer.py MODE_FILE --config measurer.conf`.

MODE_FILE says what happens to them now: `none`, or one of FAULTS. The fault sits between the measurer and its session,
which knows nothing of it.
"""

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from flashflow.cli import main
from flashflow.shell.parent import follow_parent
from flashflow.shell.sessionclient import SessionClient
from flashflow.wire.messages import BwReport, Message

HIT = 2
"""The second whose report is hit."""
Send = Callable[[Message], None]


def doubled(report: BwReport, send: Send, held: list[BwReport]) -> None:
    """Each comes twice."""
    send(report)
    send(report)


def missing(report: BwReport, send: Send, held: list[BwReport]) -> None:
    """One never comes."""
    if report.second != HIT:
        send(report)


def reordered(report: BwReport, send: Send, held: list[BwReport]) -> None:
    """One comes after the one that follows it."""
    if report.second == HIT:
        held.append(report)
        return
    send(report)
    while held:
        send(held.pop())


def contradicting(report: BwReport, send: Send, held: list[BwReport]) -> None:
    """One comes twice, with another figure the second time."""
    send(report)
    if report.second == HIT:
        send(report.model_copy(update={"recv_bytes": report.recv_bytes // 2}))


FAULTS = {fault.__name__: fault for fault in (doubled, missing, reordered, contradicting)}


def break_reports(mode_file: Path) -> None:
    """From now on this process's reports go through what the file says."""
    right = SessionClient.send
    held: list[BwReport] = []

    def send(client: SessionClient, message: Message) -> None:
        fault = FAULTS.get(mode_file.read_text())
        if fault is None or not isinstance(message, BwReport):
            right(client, message)
        else:
            fault(message, lambda one: right(client, one), held)

    SessionClient.send = send


if __name__ == "__main__":
    follow_parent()
    break_reports(Path(sys.argv[1]))
    sys.exit(main(["measurer", *sys.argv[2:]]))
