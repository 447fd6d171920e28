"""Whatever becomes of a relay's measurements: what is published follows from their order, and survives a restart."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.v3bw import build_v3bw
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint
from flashflow.model.results import Failure, MeasurementRecord
from flashflow.store.store import Store
from support.records import FINGERPRINT, OTHER, failed, success

FAILURES = {
    "relay": Failure(ErrorKind.PEER, "the relay closed"),
    "forged": Failure(ErrorKind.PEER, "a wrong cell", forged=True),
    "network": Failure(ErrorKind.NETWORK, "no connection"),
    "measurer": Failure(ErrorKind.NETWORK, "measurer m1 was lost", by_measurer=True),
    "ours": Failure(ErrorKind.LOCAL, "stopped"),
}
HISTORY = st.lists(
    st.tuples(
        st.sampled_from([FINGERPRINT, OTHER]),
        st.sampled_from(["accepted", "bound", "relay", "relay", "forged", "network", "measurer", "ours"]),
    ),
    max_size=14,
)
START_UTC_S = 1_700_000_000.0


def record(number: int, fingerprint: Fingerprint, outcome: str) -> MeasurementRecord:
    ended_utc_s = START_UTC_S + number * 60.0
    if outcome in FAILURES:
        return failed(number, ended_utc_s, fingerprint=fingerprint, failure=FAILURES[outcome])
    changes = {"fingerprint": fingerprint, "accepted": outcome == "accepted", "result_bytes": 1000 * number}
    return success(number, ended_utc_s, **changes)


def expected(outcomes: list[str]) -> tuple[str, int, int]:
    """What has to be published of a relay (`result`, `excluded`, `nothing`), failures in a row, forgeries."""
    in_a_row = forgeries = 0
    for outcome in outcomes:
        if outcome in ("accepted", "bound"):
            in_a_row = forgeries = 0
        elif outcome in ("relay", "forged"):
            in_a_row += 1
            forgeries += outcome == "forged"
    has_result = any(outcome in ("accepted", "bound") for outcome in outcomes)
    if forgeries or in_a_row >= 3:
        return "excluded", in_a_row, forgeries
    return "result" if has_result else "nothing", in_a_row, forgeries


def published(store: Store, fingerprint: Fingerprint) -> dict[str, str] | None:
    text = build_v3bw(
        store.latest_results(0.0),
        {},
        now_utc_s=START_UTC_S + 3600,
        started_utc_s=START_UTC_S,
        software_version="1",
        max_age_s=7200,
        failures=store.failure_counts(0.0),
        standings=store.standings(),
    )
    for line in (text or "").splitlines():
        if line.startswith(f"node_id=${fingerprint} "):
            return dict(pair.split("=", 1) for pair in line.split(" "))
    return None


def complaint(store: Store, fingerprint: Fingerprint, outcomes: list[str]) -> str | None:
    state, in_a_row, forgeries = expected(outcomes)
    row = published(store, fingerprint)
    if row is None:
        return None if state == "nothing" else f"{state}, but no line"
    is_out = (row["bw"], row.get("unmeasured"), row.get("vote")) == ("1", "1", "0")
    if is_out != (state == "excluded"):
        return f"{state}, but published as {row}"
    counts = (int(row.get("ff_relay_failures", 0)), int(row.get("ff_forgeries", 0)))
    return None if counts == (in_a_row, forgeries) else f"counts {counts}"


@settings(max_examples=60, deadline=None)
@given(HISTORY)
def test_what_is_published_follows_from_what_happened(history: list[tuple[Fingerprint, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "results.sqlite")
        for number, (fingerprint, outcome) in enumerate(history, start=1):
            store.save(record(number, fingerprint, outcome))
        for fingerprint in (FINGERPRINT, OTHER):
            assert complaint(store, fingerprint, [o for f, o in history if f == fingerprint]) is None
        store.close()


def test_a_forgery_that_counted_for_nothing_would_be_found() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "results.sqlite")
        store.save(record(1, FINGERPRINT, "accepted"))
        store.save(record(2, FINGERPRINT, "relay"))
        assert complaint(store, FINGERPRINT, ["accepted", "relay"]) is None
        assert complaint(store, FINGERPRINT, ["accepted", "forged"]) is not None
        assert complaint(store, FINGERPRINT, ["accepted", "relay", "relay", "relay"]) is not None
        store.close()
