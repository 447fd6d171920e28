"""The store's thread between the core and the database: what a crash between two writes left, what cannot be written."""

import asyncio
import time
from pathlib import Path

import pytest

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.outputs import store_thread
from coordinator.outputs.store_thread import StoreThread, stored_progress
from coordinator.outputs.v3bw_file import publish
from flashflow.model.errors import LocalError
from flashflow.model.ids import MeasId
from flashflow.model.results import MeasurementRecord
from flashflow.store.store import Store
from support.coordinator_world import World
from support.records import success

KEEP_S = 7200


class Deployment:
    """A store with its thread; what the thread posts can be awaited."""

    def __init__(self, folder: Path) -> None:
        self.store = Store.open(folder / "results.db")
        self.posted: asyncio.Queue[object] = asyncio.Queue()
        self.thread = StoreThread(
            self.store,
            v3bw=folder / "v3bw",
            max_age_s=86400,
            keep_s=KEEP_S,
            publish_loop_results=False,
            version="1",
            post=self.posted.put_nowait,
        )


def v3bw_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("v3bw.*"))


def left(record: MeasurementRecord) -> ev.Progress:
    """The progress as it was while `record`'s measurement was in work."""
    one = ev.InWork(record.meas_id, record.fingerprint, record.nickname, record.mode, record.started_utc_s)
    return ev.Progress(0.0, "", "", (one,))


async def test_a_crash_after_the_record_and_before_the_progress_was_stored_loses_nothing(
    tmp_path: Path,
) -> None:
    """The next run finds the measurement in work, and its record in the store: that is what became of it."""
    deployment = Deployment(tmp_path)
    record = success(7, 1000.0)
    deployment.thread.save_progress(do.SaveProgress(left(record), (), whole=True))
    deployment.thread.save_measurement(do.SaveMeasurement(record))
    assert await deployment.posted.get() == ev.ProgressStored((record.meas_id,))
    assert await deployment.posted.get() == ev.MeasurementStored(record.meas_id)
    again = World()
    again.say(ev.Started(b"\x07" * 32, (), (), stored_progress(deployment.store), secret=b"\x08" * 32))
    (save,) = again.of(do.SaveMeasurement)
    deployment.thread.save_measurement(save)
    outcome = await deployment.posted.get()
    assert outcome == ev.MeasurementStored(record.meas_id)
    effects = again.say(outcome)
    assert again.of(do.SaveProgress, effects)[0].progress.in_work == ()
    assert deployment.store.results(None, 9) == [record]
    await deployment.thread.close()


async def test_progress_that_cannot_be_stored_is_in_the_log_whoever_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """At the end of the process nobody does: the loop takes no more events."""

    def full(*args: object, **options: object) -> None:
        raise LocalError("disk full")

    deployment = Deployment(tmp_path)
    monkeypatch.setattr(deployment.store, "save_plan", full)
    deployment.thread.save_progress(do.SaveProgress(left(success(7, 1000.0)), (), whole=True))
    assert await deployment.posted.get() == ev.StoreFailed("disk full")
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("ERROR", "the plan could not be stored: disk full")
    ]
    await deployment.thread.close()


async def test_old_files_go_when_a_new_one_is_written(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    now = time.time()
    for age_s in (KEEP_S + 60, KEEP_S - 60):
        publish("old\n", tmp_path / "v3bw", now - age_s)
    _, second = v3bw_files(tmp_path)
    deployment.thread.save_measurement(do.SaveMeasurement(success(7, now - 60)))
    deployment.thread.write_v3bw(do.WriteV3bw(1, {}))
    assert await deployment.posted.get() == ev.MeasurementStored(MeasId(7))
    written = await deployment.posted.get()
    assert isinstance(written, ev.V3bwWritten)
    assert written.error is None
    assert v3bw_files(tmp_path) == [second, Path(str(written.path))]
    await deployment.thread.close()


async def test_old_files_that_cannot_be_removed_cost_no_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(link: Path, before_utc_s: float) -> None:
        raise LocalError("cannot remove old v3bw files: no permission")

    monkeypatch.setattr(store_thread, "remove_older", refused)
    deployment = Deployment(tmp_path)
    deployment.thread.save_measurement(do.SaveMeasurement(success(7, time.time() - 60)))
    deployment.thread.write_v3bw(do.WriteV3bw(1, {}))
    await deployment.posted.get()
    written = await deployment.posted.get()
    assert isinstance(written, ev.V3bwWritten)
    assert written.error is None
    assert [one.getMessage() for one in caplog.records] == ["cannot remove old v3bw files: no permission"]
    await deployment.thread.close()
