"""Between a MeasurementRecord and its rows."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import RowMapping

from flashflow.model.errors import ErrorKind, LocalError
from flashflow.model.ids import Fingerprint, MeasId
from flashflow.model.plan import PlanRow
from flashflow.model.reports import SecondReport
from flashflow.model.results import Failure, Fault, MeasurementRecord, MeasurerShare
from flashflow.store.latest import LatestResult

BACKGROUND_PARTY = ""
"""The party of the relay's own reports; no certificate has an empty name."""
_LARGEST = (1 << 63) - 1

Row = dict[str, Any]


def measurement_row(record: MeasurementRecord) -> Row:
    """The row of the measurement table, without its id."""
    failure = record.failure
    return {
        "meas_id": record.meas_id,
        "fingerprint": record.fingerprint,
        "nickname": _text(record.nickname),
        "mode": record.mode,
        "started_utc_s": record.started_utc_s,
        "active_utc_s": record.active_utc_s,
        "ended_utc_s": record.ended_utc_s,
        "duration_s": record.duration_s,
        "background_ratio": record.background_ratio,
        "result_bytes": _count(record.result_bytes),
        "background_bytes": _count(record.background_bytes),
        "accepted": record.accepted,
        "failure_kind": failure.kind.value if failure else None,
        "failure_reason": _text(failure.reason) if failure else None,
        "bandwidth_avg_bytes": _count(record.bandwidth_avg_bytes),
        "team_limited": record.team_limited,
        "failure_fault": failure.fault.value if failure else None,
        "forged": failure is not None and failure.forged,
    }


def share_rows(measurement_id: int, shares: Iterable[MeasurerShare]) -> list[Row]:
    """The rows of the share table."""
    return [
        {
            "measurement_id": measurement_id,
            "name": _text(share.name),
            "position": position,
            "allocated_bytes": _count(share.allocated_bytes),
            "n_circs": share.n_circs,
        }
        for position, share in enumerate(shares)
    ]


def report_rows(measurement_id: int, record: MeasurementRecord) -> list[Row]:
    """The rows of the report table, of every party."""
    parties = [(share.name, share.reports) for share in record.shares]
    return [
        {
            "measurement_id": measurement_id,
            "party": _text(party),
            "second": report.second,
            "sent_bytes": _count(report.sent_bytes),
            "recv_bytes": _count(report.recv_bytes),
        }
        for party, reports in [*parties, (BACKGROUND_PARTY, record.background)]
        for report in reports
    ]


def latest_result(row: RowMapping) -> LatestResult:
    """The result in a successful measurement's row."""
    return LatestResult(
        fingerprint=Fingerprint(row["fingerprint"]),
        nickname=row["nickname"],
        mode=row["mode"],
        ended_utc_s=row["ended_utc_s"],
        result_bytes=row["result_bytes"],
        background_bytes=row["background_bytes"] or 0,
        accepted=row["accepted"],
        bandwidth_avg_bytes=row["bandwidth_avg_bytes"],
        team_limited=row["team_limited"],
    )


def plan_row(row: PlanRow) -> Row:
    """The row of the plan table."""
    counts = {name: _count(getattr(row, name)) for name in ("rate_bytes", "wanted_bytes", "raised_bytes")}
    return {name: getattr(row, name) for name in PlanRow.__slots__} | counts


def record_from(
    row: RowMapping, shares: Iterable[RowMapping], reports: Mapping[str, tuple[SecondReport, ...]]
) -> MeasurementRecord:
    """The record of one measurement's rows; `reports` by party. Raises LocalError for what FlashFlow never wrote."""
    return MeasurementRecord(
        meas_id=MeasId(row["meas_id"]),
        fingerprint=Fingerprint(row["fingerprint"]),
        nickname=row["nickname"],
        mode=row["mode"],
        started_utc_s=row["started_utc_s"],
        active_utc_s=row["active_utc_s"],
        ended_utc_s=row["ended_utc_s"],
        duration_s=row["duration_s"],
        background_ratio=row["background_ratio"],
        shares=tuple(
            MeasurerShare(s["name"], s["allocated_bytes"], s["n_circs"], reports.get(s["name"], ()))
            for s in shares
        ),
        background=reports.get(BACKGROUND_PARTY, ()),
        result_bytes=row["result_bytes"],
        background_bytes=row["background_bytes"],
        accepted=row["accepted"],
        failure=_failure(row),
        bandwidth_avg_bytes=row["bandwidth_avg_bytes"],
        team_limited=row["team_limited"],
    )


def _failure(row: RowMapping) -> Failure | None:
    if row["failure_kind"] is None:
        return None
    try:
        kind = ErrorKind(row["failure_kind"])
    except ValueError:
        raise LocalError(f"damaged: no such kind of failure: {row['failure_kind']!r}") from None
    by_measurer = row["failure_fault"] == Fault.MEASURER
    return Failure(kind, row["failure_reason"] or "", by_measurer, row["forged"])


def _count(value: int | None) -> int | None:
    """SQLite's integers end at 2^63-1, which no honest byte count reaches: a peer's larger one is stored as that."""
    return None if value is None else min(value, _LARGEST)


def _text(text: str) -> str:
    """Text as UTF-8 can hold it: a lone surrogate, which a peer's JSON may carry, becomes a question mark."""
    return text.encode(errors="replace").decode()
