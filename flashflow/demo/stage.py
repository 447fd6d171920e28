"""What every demo does around its own deployment: folders, measuring one relay, showing and writing what was found."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from flashflow.ctrl.client import CtrlClient
from flashflow.ctrl.progress import follow
from flashflow.ctrl.show import result_line
from flashflow.ctrl.tables import Table, print_table
from flashflow.demo.child import ChildFailedError, Running
from flashflow.demo.report import Compared, Timed, document
from flashflow.demo.team import Team
from flashflow.model.errors import FlashFlowError, LocalError, NetworkError, UsageError
from flashflow.model.ids import Fingerprint

DYING_S = 5.0
"""A coordinator whose connection broke may be about to end: its log tells more then."""


class MeasurementFailedError(FlashFlowError):
    """The coordinator reported a failed measurement."""


class Measurable(Protocol):
    """A relay of a deployment."""

    @property
    def nickname(self) -> str:
        """Its nickname."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """Its identity."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """What a deployment was found to do."""

    rows: Sequence[Compared]
    """A row for each relay."""
    v3bw: bytes
    """The v3bw file."""
    table: Table
    """The rows, to be shown."""
    notes: Sequence[str]
    """What is to be said beside the table, a line each."""
    complaints: list[str]
    """What is wrong with the figures, a line each."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of demo.json."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a demo that ran to its end found."""

    document: dict[str, Any]
    """The content of demo.json."""
    complaints: list[str]
    """What is wrong with the figures, a line each."""


def staged(plan: Timed, out: Path, console: Console, measure: Callable[[Path], Finding]) -> Outcome:
    """Have `measure` work in a folder of its own; show what it found, write OUT/demo.json and OUT/v3bw.

    The folder is kept if there are complaints, or an error. Raises UsageError, LocalError.
    """
    started_s = time.monotonic()
    out = _make_folder(out)
    work = _make_work_folder()
    try:
        found = measure(work)
        _replace(out / "v3bw", found.v3bw)
    except (KeyboardInterrupt, SystemExit):
        shutil.rmtree(work, ignore_errors=True)
        raise
    content = {**document(found.rows, plan, str(out / "v3bw"), time.monotonic() - started_s), **found.more}
    _replace(out / "demo.json", (json.dumps(content, indent=2) + "\n").encode())
    print_table(found.table, console)
    for line in [*found.notes, *found.complaints]:
        console.out(line, highlight=False)
    _end_folder(work, console, keep=bool(found.complaints))
    return Outcome(content, found.complaints)


@contextmanager
def explained(team: Team, console: Console) -> Iterator[None]:
    """If it fails in here, the logs that tell why are shown first. Raises LocalError in place of any of our errors."""
    try:
        yield
    except FlashFlowError as error:
        if isinstance(error, NetworkError):
            team.child("coordinator").wait(DYING_S)
        dead = team.dead()
        for child in dead or _to_blame(team, error):
            console.out(f"--- the end of {child.name}'s log:", child.tail(), "---", sep="\n", highlight=False)
        ended = "; ".join(f"{child.name} ended with status {child.returncode}" for child in dead)
        reason = (
            error.reason if isinstance(error, ChildFailedError) or not dead else f"{ended}: {error.reason}"
        )
        raise LocalError(f"{reason} (everything is kept in {team.folder})") from None


def measured(client: CtrlClient, console: Console, relay: Measurable, place: str) -> dict[str, Any]:
    """Measure a relay, the one at `place`, say `2/4`; the result object of a success. Raises FlashFlowError."""
    client.request("measure", relay.fingerprint, "wait")
    result = follow(client.events(), console, f"{relay.nickname} ({place})")
    console.out(result_line(result), highlight=False)
    if result["outcome"] != "ok":
        raise MeasurementFailedError(
            f"the measurement of {relay.nickname} failed: {result['failure']['reason']}"
        )
    return result


def read_v3bw(client: CtrlClient) -> bytes:
    """Have the coordinator publish a v3bw file; its content. Raises LocalError."""
    path = Path(client.request("v3bw")["path"])
    try:
        return path.read_bytes()
    except OSError as error:
        raise LocalError(f"{path}: cannot read the v3bw file: {error.strerror}") from None


def _to_blame(team: Team, error: FlashFlowError) -> list[Running]:
    """Who can tell most about a failure that no process died of."""
    if isinstance(error, ChildFailedError):
        return [error.child]
    return [child for child in team.children if child.name == "coordinator"]


def _make_work_folder() -> Path:
    """In TMPDIR, unless that is too long for the Unix sockets in it (107 bytes, unix(7)).

    The longest is TMPDIR/flashflow-demo-xxxxxxxx/coord/directory/control.
    """
    parent = tempfile.gettempdir()
    return Path(
        tempfile.mkdtemp(prefix="flashflow-demo-", dir=parent if len(os.fsencode(parent)) <= 59 else "/tmp")
    )


def _make_folder(path: Path) -> Path:
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {path}: cannot make this folder: {error.strerror}") from None
    return path


def _replace(path: Path, content: bytes) -> None:
    """Write `path` in one step: another demo may use the same folder."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        new.write_bytes(content)
        new.replace(path)
    except OSError as error:
        raise LocalError(f"{path}: cannot be written: {error.strerror}") from None


def _end_folder(work: Path, console: Console, *, keep: bool) -> None:
    if keep:
        console.out(f"everything is kept in {work}", highlight=False)
    else:
        shutil.rmtree(work, ignore_errors=True)
