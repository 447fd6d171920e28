"""The store in a thread of its own: every call is slow (fsync), none may block the loop, all keep their order."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from coordinator.core import effects as do
from coordinator.core import events as ev
from coordinator.core.v3bw import build_v3bw
from coordinator.outputs.v3bw_file import publish, remove_older
from flashflow.model.errors import LocalError
from flashflow.model.ids import Mode
from flashflow.store.store import Store

PROGRESS_KEY = "progress"

log = logging.getLogger(__name__)

_PROGRESS = TypeAdapter(ev.Progress)


def stored_progress(store: Store) -> ev.Progress | None:
    """What the last run left. Raises LocalError if it cannot be understood."""
    stored = store.get_state(PROGRESS_KEY)
    if stored is None:
        return None
    try:
        return _PROGRESS.validate_python(stored)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise LocalError(f"{store.path}: damaged: state {PROGRESS_KEY!r}: {first['msg']}") from None


class StoreThread:
    """Carries out the store's effects one after the other; `post` takes their outcomes, on the loop."""

    def __init__(
        self,
        store: Store,
        *,
        v3bw: Path,
        max_age_s: int,
        keep_s: int,
        publish_loop_results: bool,
        version: str,
        post: Callable[[object], None],
    ) -> None:
        self._store = store
        self._v3bw = v3bw
        self._max_age_s = max_age_s
        self._keep_s = keep_s
        self._version = version
        self._publish_loop_results = publish_loop_results
        self._post = post
        self._started_utc_s = time.time()
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

    def save_measurement(self, effect: do.SaveMeasurement) -> None:
        """Write a record."""
        self._run(self._save, effect)

    def save_progress(self, effect: do.SaveProgress) -> None:
        """Remember what a restart has to know."""
        self._run(self._put_progress, effect)

    def read_results(self, effect: do.ReadResults) -> None:
        """Read records."""
        self._run(self._read, effect)

    def write_v3bw(self, effect: do.WriteV3bw) -> None:
        """Build and publish a v3bw file."""
        self._run(self._write, effect)

    async def close(self) -> None:
        """Finish what is queued, then close the store."""
        await self._loop.run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()

    def _run(self, work: Callable[[Any], object], argument: object) -> None:
        future = self._loop.run_in_executor(self._thread, functools.partial(work, argument))
        future.add_done_callback(self._done)

    def _done(self, future: asyncio.Future[object]) -> None:
        self._post(
            future.result()
        )  # a bug in here goes to the loop's exception handler, which ends the process

    def _save(self, effect: do.SaveMeasurement) -> object:
        record = effect.record
        try:
            self._store.save(record, if_absent=effect.if_absent)
        except LocalError as error:
            return ev.MeasurementNotStored(record.meas_id, error.reason)
        return ev.MeasurementStored(record.meas_id)

    def _put_progress(self, effect: do.SaveProgress) -> object:
        progress = _PROGRESS.dump_python(effect.progress, mode="json")
        try:
            self._store.save_plan(effect.rows, whole=effect.whole, state={PROGRESS_KEY: progress})
        except LocalError as error:
            # Here, and not by the core: at the process' end nobody hears the event.
            log.error("the plan could not be stored: %s", error.reason)
            return ev.StoreFailed(error.reason)
        return ev.ProgressStored(tuple(left.meas_id for left in effect.progress.in_work))

    def _read(self, effect: do.ReadResults) -> object:
        try:
            records = tuple(self._store.results(effect.fingerprint, effect.limit))
        except LocalError as error:
            return ev.ResultsRead(effect.query_id, (), error.reason)
        return ev.ResultsRead(effect.query_id, records, None)

    def _write(self, effect: do.WriteV3bw) -> object:
        now = time.time()
        try:
            since = now - self._max_age_s
            modes: tuple[Mode, ...] = ("echo", "loop") if self._publish_loop_results else ("echo",)
            results = self._store.latest_results(since, modes)
            text = build_v3bw(
                results,
                effect.relays,
                now_utc_s=now,
                started_utc_s=self._started_utc_s,
                software_version=self._version,
                max_age_s=self._max_age_s,
                failures=self._store.failure_counts(since),
                standings=self._store.standings(modes),
            )
            path = publish(text, self._v3bw, now) if text is not None else None
        except LocalError as error:
            return ev.V3bwWritten(effect.query_id, None, 0, error.reason)
        try:
            remove_older(self._v3bw, now - self._keep_s)
        except LocalError as error:  # the new file is there all the same
            log.warning("%s", error.reason)
        return ev.V3bwWritten(effect.query_id, str(path) if path else None, len(results) if path else 0, None)
