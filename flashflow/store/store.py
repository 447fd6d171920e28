"""The store: what is saved is on disk, with fsync, before save() returns."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    RowMapping,
    Select,
    cast,
    delete,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.exc import IntegrityError

from flashflow.model.errors import LocalError
from flashflow.model.ids import Fingerprint, Mode
from flashflow.model.plan import PlanRow
from flashflow.model.reports import SecondReport
from flashflow.model.results import MeasurementRecord, Standing
from flashflow.store.latest import LatestResult
from flashflow.store.opening import open_engine, translated
from flashflow.store.rows import (
    latest_result,
    measurement_row,
    plan_row,
    record_from,
    report_rows,
    share_rows,
)
from flashflow.store.schema import measurement, plan, report, share, state

MAX_RESULTS = 100_000
"""The most records that one call gives."""


class Store:
    """The results database. Any thread may call; calls run one after the other, and save() waits for the disk.

    Every method raises LocalError, one line that names the file, when the database cannot do it (disk full,
    read-only, damaged); what was asked then has not happened at all, and may be asked again.
    """

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._engine = engine
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """The store in the file at `path`, made if missing, upgraded after a backup copy if older. LocalError."""
        return cls(path, open_engine(path))

    def close(self) -> None:
        """Close the file; the store is of no use afterwards."""
        with self._lock:
            self._engine.dispose()

    def save(self, record: MeasurementRecord, *, if_absent: bool = False) -> None:
        """Store `record` with all its reports in one transaction; the very same record again does nothing.

        With `if_absent` any record of that measurement which is there already stays, and counts as this one.
        """
        try:
            with self._begin() as connection:
                _insert(connection, record)
        except LocalError as error:
            known = self._known(record) if isinstance(error.__cause__, IntegrityError) else []
            if not known or (known != [record] and not if_absent):
                raise

    def latest_results(
        self, since_utc_s: float, modes: Sequence[Mode] = ("echo", "loop")
    ) -> list[LatestResult]:
        """For each relay with a success that ended at `since_utc_s` or later: the newest accepted, else the newest."""
        rank = (
            func.row_number()
            .over(
                partition_by=measurement.c.fingerprint,
                order_by=(
                    measurement.c.accepted.desc(),
                    measurement.c.ended_utc_s.desc(),
                    measurement.c.id.desc(),
                ),
            )
            .label("rank")
        )
        recent = measurement.c.ended_utc_s >= since_utc_s
        wanted = (recent, measurement.c.mode.in_(modes), measurement.c.result_bytes.is_not(None))
        ranked = select(measurement, rank).where(*wanted).subquery()
        query = select(ranked).where(ranked.c.rank == 1).order_by(ranked.c.fingerprint)
        with self._begin() as connection:
            return [latest_result(row) for row in connection.execute(query).mappings()]

    def results(self, fingerprint: Fingerprint | None, limit: int) -> list[MeasurementRecord]:
        """The newest `limit` records, of one relay or of all, newest first."""
        query = select(measurement.c.id)
        if fingerprint is not None:
            query = query.where(measurement.c.fingerprint == fingerprint)
        query = query.order_by(measurement.c.ended_utc_s.desc(), measurement.c.id.desc())
        with self._begin() as connection:
            return self._records(connection, query.limit(max(0, min(limit, MAX_RESULTS))))

    def failure_counts(self, since_utc_s: float) -> dict[Fingerprint, int]:
        """How many measurements of each relay failed that ended at `since_utc_s` or later; none is left out."""
        query = (
            select(measurement.c.fingerprint, func.count())
            .where(measurement.c.ended_utc_s >= since_utc_s, measurement.c.failure_kind.is_not(None))
            .group_by(measurement.c.fingerprint)
            .order_by(measurement.c.fingerprint)
        )
        with self._begin() as connection:
            return {Fingerprint(fingerprint): count for fingerprint, count in connection.execute(query)}

    def standings(self, modes: Sequence[Mode] = ("echo", "loop")) -> dict[Fingerprint, Standing]:
        """What each relay that made measurements fail did since its last result, of those in these modes last."""
        success = measurement.alias()
        last_success = (
            select(func.coalesce(func.max(success.c.id), 0))
            .where(success.c.fingerprint == measurement.c.fingerprint, success.c.result_bytes.is_not(None))
            .scalar_subquery()
        )
        query = (
            select(
                measurement.c.fingerprint,
                measurement.c.nickname,
                measurement.c.mode,
                measurement.c.ended_utc_s,
                func.count().label("relay_failures"),
                func.sum(cast(measurement.c.forged, Integer)).label("forgeries"),
                func.max(measurement.c.id),  # SQLite takes the other columns from that row
            )
            .where(text("failure_fault = 'relay'"), measurement.c.id > last_success)
            .group_by(measurement.c.fingerprint)
            .order_by(measurement.c.fingerprint)
        )
        with self._begin() as connection:
            rows = connection.execute(query).mappings()
            found = [Standing(**{name: row[name] for name in Standing.__slots__}) for row in rows]
        return {Fingerprint(one.fingerprint): one for one in found if one.mode in modes}

    def get_state(self, key: str) -> Any:
        """What put_state() stored under `key`, or None."""
        with self._begin() as connection:
            text = connection.execute(select(state.c.value).where(state.c.key == key)).scalar()
        try:
            return None if text is None else json.loads(text)
        except ValueError as error:
            raise LocalError(f"{self.path}: damaged: state {key!r} is not JSON: {error}") from None

    def put_state(self, key: str, value: Any) -> None:
        """Keep `value`, anything that JSON can hold, under `key`."""
        with self._begin() as connection:
            _put_state(connection, key, value)

    def plan(self) -> list[PlanRow]:
        """The current period's plan, by fingerprint."""
        with self._begin() as connection:
            rows = connection.execute(select(plan).order_by(plan.c.fingerprint)).mappings()
            return [PlanRow(**{**row, "fingerprint": Fingerprint(row["fingerprint"])}) for row in rows]

    def save_plan(
        self, rows: Sequence[PlanRow], *, whole: bool, state: Mapping[str, Any] | None = None
    ) -> None:
        """Keep `rows` in place of those of the same relays, or in place of all if they are the `whole` plan.

        What is in `state` is kept as by put_state(), in the same transaction.
        """
        with self._begin() as connection:
            for key, value in (state or {}).items():
                _put_state(connection, key, value)
            if whole:
                connection.execute(delete(plan))
            if rows:
                statement = sqlite_insert(plan)
                changed = {c.name: statement.excluded[c.name] for c in plan.c if not c.primary_key}
                upsert = statement.on_conflict_do_update(index_elements=["fingerprint"], set_=changed)
                connection.execute(upsert, [plan_row(row) for row in rows])

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        with self._lock, translated(self.path), self._engine.begin() as connection:
            yield connection

    def _known(self, record: MeasurementRecord) -> list[MeasurementRecord]:
        """What is stored of that measurement: one record, or none."""
        same = (measurement.c.meas_id == record.meas_id, measurement.c.started_utc_s == record.started_utc_s)
        with self._begin() as connection:
            return self._records(connection, select(measurement.c.id).where(*same))

    def _records(self, connection: Connection, chosen: Select[Any]) -> list[MeasurementRecord]:
        ids = list(connection.execute(chosen).scalars())
        wanted = chosen.subquery()
        rows = _by_id(connection, select(measurement).where(measurement.c.id.in_(select(wanted.c.id))), "id")
        shares = _by_id(
            connection,
            select(share).where(share.c.measurement_id.in_(select(wanted.c.id))).order_by(share.c.position),
            "measurement_id",
        )
        reports = _by_id(
            connection,
            select(report).where(report.c.measurement_id.in_(select(wanted.c.id))).order_by(report.c.second),
            "measurement_id",
        )
        return [record_from(rows[key][0], shares[key], _by_party(reports[key])) for key in ids]


def _put_state(connection: Connection, key: str, value: Any) -> None:
    text = json.dumps(value)
    statement = sqlite_insert(state).values(key=key, value=text)
    connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": text}))


def _insert(connection: Connection, record: MeasurementRecord) -> None:
    key = connection.execute(
        insert(measurement).returning(measurement.c.id), measurement_row(record)
    ).scalar_one()
    for table, rows in ((share, share_rows(key, record.shares)), (report, report_rows(key, record))):
        if rows:
            connection.execute(insert(table), rows)


def _by_id(connection: Connection, query: Select[Any], column: str) -> defaultdict[int, list[RowMapping]]:
    groups: defaultdict[int, list[RowMapping]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        groups[row[column]].append(row)
    return groups


def _by_party(rows: Sequence[RowMapping]) -> dict[str, tuple[SecondReport, ...]]:
    parties: defaultdict[str, list[SecondReport]] = defaultdict(list)
    for row in rows:
        parties[row["party"]].append(SecondReport(row["second"], row["sent_bytes"], row["recv_bytes"]))
    return {party: tuple(reports) for party, reports in parties.items()}
