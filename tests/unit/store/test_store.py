"""What the store keeps and gives back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flashflow.model.errors import ErrorKind, LocalError
from flashflow.model.ids import Fingerprint
from flashflow.model.plan import PlanRow
from flashflow.model.reports import SecondReport
from flashflow.model.results import Failure, MeasurerShare
from flashflow.store.latest import LatestResult
from flashflow.store.store import Store
from support.records import FINGERPRINT, OTHER, failed, success


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "results.sqlite")


def reopened(store: Store) -> Store:
    store.close()
    return Store.open(store.path)


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_records_come_back_as_they_were(store: Store, kind: ErrorKind) -> None:
    records = [
        success(1, 100.125),
        success(2, 101.5, accepted=False, bandwidth_avg_bytes=None, mode="loop"),
        success(5, 101.75, accepted=False, team_limited=True),
        failed(3, 102.25, failure=Failure(kind, "why")),
        failed(2**32 - 1, 103.0, shares=success(1, 1.0).shares, background=(SecondReport(1, 2, 3),)),
    ]
    for record in records:
        store.save(record)
    assert reopened(store).results(None, 10) == records[::-1]


def test_shares_keep_their_order(store: Store) -> None:
    record = success(1, 100.0, shares=tuple(MeasurerShare(name, 1, 1, ()) for name in ("z", "a", "m")))
    store.save(record)
    assert store.results(None, 1) == [record]


def test_results_of_one_relay_newest_first_and_limited(store: Store) -> None:
    for number in range(1, 6):
        store.save(success(number, 100.0 + number))
    store.save(success(9, 102.5, fingerprint=OTHER))
    assert [r.meas_id for r in store.results(FINGERPRINT, 2)] == [5, 4]
    assert [r.meas_id for r in store.results(OTHER, 2)] == [9]
    assert [r.meas_id for r in store.results(None, 4)] == [5, 4, 3, 9]
    assert store.results(None, 0) == store.results(None, -1) == []
    assert len(store.results(None, 10**18)) == 6


def test_the_same_record_again_does_nothing(store: Store) -> None:
    store.save(success(1, 100.0))
    store.save(success(1, 100.0))
    assert len(store.results(None, 10)) == 1


def test_another_record_of_the_same_id_and_start_is_refused_whole(store: Store) -> None:
    store.save(success(1, 100.0))
    with pytest.raises(LocalError, match="UNIQUE constraint failed"):
        store.save(success(1, 100.0, result_bytes=5))
    assert store.results(None, 10) == [success(1, 100.0)]


def test_a_record_that_counts_only_if_there_is_none_leaves_what_there_is(store: Store) -> None:
    record = success(7, 100.0)
    store.save(failed(7, 100.0), if_absent=True)
    store.save(record, if_absent=True)
    store.save(success(8, 200.0), if_absent=True)
    assert [one.failure is None for one in store.results(None, 9)] == [True, False]
    with pytest.raises(LocalError):
        store.save(record)


def test_an_id_may_come_again_later(store: Store) -> None:
    store.save(success(1, 100.0))
    store.save(success(1, 200.0))
    assert len(store.results(None, 10)) == 2


def test_a_record_that_cannot_be_stored_whole_is_not_stored_in_part(store: Store) -> None:
    twice = (SecondReport(1, 2, 3), SecondReport(1, 4, 5))
    with pytest.raises(
        LocalError, match=r"results\.sqlite: results database: UNIQUE constraint failed: report"
    ):
        store.save(success(1, 100.0, background=twice))
    assert store.results(None, 10) == []
    store.save(success(1, 100.0))
    assert store.results(None, 10) == [success(1, 100.0)]


def test_what_peers_can_send_is_stored_whatever_it_is(store: Store) -> None:
    """A relay's background report may hold any 64-bit number; a peer's words any text."""
    huge = (SecondReport(1, 2**64 - 1, 2**63),)
    words = 'it said "'
    store.save(
        success(1, 1.0, background=huge, failure=Failure(ErrorKind.PEER, words + "\udcff\0'; DROP TABLE x"))
    )
    found = store.results(None, 1)[0]
    assert found.background == (SecondReport(1, 2**63 - 1, 2**63 - 1),)
    assert found.failure == Failure(ErrorKind.PEER, words + "?\0'; DROP TABLE x")


def test_latest_is_the_newest_accepted_else_the_newest(store: Store) -> None:
    store.save(success(1, 100.0, result_bytes=1))
    store.save(success(2, 110.0, result_bytes=2))
    store.save(success(3, 120.0, result_bytes=3, accepted=False))
    store.save(failed(4, 130.0))
    store.save(success(5, 100.0, fingerprint=OTHER, result_bytes=5, accepted=False))
    store.save(success(6, 105.0, fingerprint=OTHER, result_bytes=6, accepted=False, nickname="moved"))
    assert store.latest_results(0.0) == [
        LatestResult(FINGERPRINT, "relay1", "echo", 110.0, 2, 4_321, True, 9_000_000),
        LatestResult(OTHER, "moved", "echo", 105.0, 6, 4_321, False, 9_000_000),
    ]


def test_latest_leaves_out_what_is_older(store: Store) -> None:
    store.save(success(1, 100.0, result_bytes=1))
    store.save(success(2, 110.0, result_bytes=2, accepted=False))
    assert [r.result_bytes for r in store.latest_results(100.0)] == [1]
    assert [r.result_bytes for r in store.latest_results(100.5)] == [2]
    assert store.latest_results(110.5) == []


def test_a_failure_never_hides_an_older_success(store: Store) -> None:
    store.save(success(1, 100.0))
    store.save(failed(2, 200.0))
    assert [r.ended_utc_s for r in store.latest_results(0.0)] == [100.0]


def test_of_equal_times_the_one_stored_later_counts(store: Store) -> None:
    store.save(success(1, 100.0, result_bytes=1))
    store.save(success(2, 100.0, result_bytes=2))
    assert [r.result_bytes for r in store.latest_results(0.0)] == [2]
    assert [r.meas_id for r in store.results(None, 2)] == [2, 1]


def test_failure_counts(store: Store) -> None:
    for number, ended in enumerate((100.0, 110.0, 120.0), start=1):
        store.save(failed(number, ended))
    store.save(success(4, 130.0))
    store.save(failed(5, 90.0, fingerprint=OTHER))
    assert store.failure_counts(0.0) == {FINGERPRINT: 3, OTHER: 1}
    assert store.failure_counts(110.0) == {FINGERPRINT: 2}
    assert store.failure_counts(130.5) == {}


@pytest.mark.parametrize("value", [None, 0, "text", [1, [2.5]], {"a": {"b": None}}])
def test_state_survives(store: Store, value: object) -> None:
    store.put_state("key", "before")
    store.put_state("key", value)
    store.put_state("other", 1)
    assert reopened(store).get_state("key") == value


def test_no_state(store: Store) -> None:
    assert store.get_state("key") is None


def test_records_of_another_relay_do_not_mix(store: Store) -> None:
    one, two = success(1, 100.0), success(2, 100.0, fingerprint=OTHER)
    two = replace(two, shares=(MeasurerShare("m1", 5, 6, (SecondReport(2, 1, 1),)),))
    store.save(one)
    store.save(two)
    assert store.results(FINGERPRINT, 5) == [one]
    assert store.results(OTHER, 5) == [two]


def plan_row(fingerprint: Fingerprint, **changes: Any) -> PlanRow:
    row = PlanRow(fingerprint, 7, 1_000_000, 2_000_000, 3, 1, runs=1, done=False, raised_bytes=0)
    return replace(row, **changes)


def test_the_plan_comes_back_as_it_was(store: Store) -> None:
    rows = [plan_row(FINGERPRINT), plan_row(OTHER, slot=None, rate_bytes=0, group=None, done=True)]
    store.save_plan(rows, whole=True)
    assert reopened(store).plan() == rows


def test_changed_rows_take_the_place_of_their_relays_rows(store: Store) -> None:
    store.save_plan([plan_row(FINGERPRINT), plan_row(OTHER)], whole=True)
    changed = plan_row(OTHER, slot=2879, runs=2, raised_bytes=2**40)
    store.save_plan([changed], whole=False)
    assert store.plan() == [plan_row(FINGERPRINT), changed]


def test_plan_and_state_are_kept_together_or_not_at_all(store: Store) -> None:
    store.save_plan([plan_row(FINGERPRINT)], whole=True, state={"progress": 1})
    assert (store.plan(), store.get_state("progress")) == ([plan_row(FINGERPRINT)], 1)
    not_for_the_table: Any = None
    with pytest.raises(LocalError):
        store.save_plan([plan_row(OTHER, rate_bytes=not_for_the_table)], whole=True, state={"progress": 2})
    assert (store.plan(), store.get_state("progress")) == ([plan_row(FINGERPRINT)], 1)


def test_a_whole_plan_takes_the_place_of_everything(store: Store) -> None:
    store.save_plan([plan_row(FINGERPRINT)], whole=True)
    store.save_plan([plan_row(OTHER)], whole=True)
    assert store.plan() == [plan_row(OTHER)]
    store.save_plan([], whole=True)
    assert store.plan() == []
