"""Measurement records for tests of the store and of what is made from it."""

from dataclasses import replace
from typing import Any

from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint, MeasId
from flashflow.model.reports import SecondReport
from flashflow.model.results import Failure, MeasurementRecord, MeasurerShare

FINGERPRINT = Fingerprint("A" * 40)
OTHER = Fingerprint("B" * 40)


def success(meas_id: int, ended_utc_s: float, **changes: Any) -> MeasurementRecord:
    """A successful measurement of two measurers, three seconds long; `changes` replace fields."""
    record = MeasurementRecord(
        meas_id=MeasId(meas_id),
        fingerprint=FINGERPRINT,
        nickname="relay1",
        mode="echo",
        started_utc_s=ended_utc_s - 10.5,
        active_utc_s=ended_utc_s - 5.25,
        ended_utc_s=ended_utc_s,
        duration_s=3,
        background_ratio=0.25,
        shares=(
            MeasurerShare("m1", 2_000_000, 4, (SecondReport(1, 9, 8), SecondReport(3, 7, 6))),
            MeasurerShare("m2", 1_000_000, 2, ()),
        ),
        background=(SecondReport(1, 5, 4), SecondReport(2, 3, 2)),
        result_bytes=1_234_567,
        background_bytes=4_321,
        accepted=True,
        failure=None,
        bandwidth_avg_bytes=9_000_000,
    )
    return replace(record, **changes)


def failed(meas_id: int, ended_utc_s: float, **changes: Any) -> MeasurementRecord:
    """A measurement that failed before its first second."""
    nothing = {"active_utc_s": None, "shares": (), "background": (), "result_bytes": None}
    failure = Failure(ErrorKind.PEER, "the relay refused: 2 measurements in this period")
    outcome = {"background_bytes": None, "accepted": False, "failure": failure}
    return success(meas_id, ended_utc_s, **{**nothing, **outcome, **changes})
