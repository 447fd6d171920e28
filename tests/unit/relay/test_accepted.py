import json
import logging

import pytest

from flashflow.model.clock import Now
from flashflow.model.errors import LocalError
from flashflow.orlink.meas import MeasErrCode
from flashflow.relay.accepted import load_accepted, save_accepted
from flashflow.relay.core.admission import AdmissionRules, Admissions
from support.mini_client import params

CERTIFICATE = b"c" * 32
BEFORE = Now(5000.0, 1_800_000_000.0)
AFTER = Now(20.0, 1_800_000_060.0)
"""A minute later, after the machine was started anew."""


def test_times_are_kept_over_a_new_monotonic_clock(tmp_path) -> None:
    path = tmp_path / "accepted.json"
    assert load_accepted(path, BEFORE) == {}
    save_accepted(path, {CERTIFICATE: (4990.0, 5000.0)}, BEFORE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_accepted(path, AFTER) == {CERTIFICATE: [-50.0, -40.0]}


def test_a_restart_gives_nobody_more(tmp_path) -> None:
    path = tmp_path / "accepted.json"
    rules = AdmissionRules(frozenset({CERTIFICATE}), period_s=100.0, max_per_period=1)
    first = Admissions(rules, {})
    first.accept(CERTIFICATE, BEFORE.mono_s)
    save_accepted(path, first.recent(BEFORE.mono_s), BEFORE)
    again = Admissions(rules, load_accepted(path, AFTER))
    good = params(b"t" * 16)
    assert again.refusal(CERTIFICATE, good, False, AFTER.mono_s + 39.0) is MeasErrCode.TOO_MANY
    assert again.refusal(CERTIFICATE, good, False, AFTER.mono_s + 41.0) is None
    assert again.recent(AFTER.mono_s + 41.0) == {}


def test_a_clock_that_was_set_back_gives_nobody_more(tmp_path) -> None:
    path = tmp_path / "accepted.json"
    save_accepted(path, {CERTIFICATE: (5000.0,)}, BEFORE)
    assert load_accepted(path, Now(20.0, BEFORE.utc_s - 3600)) == {CERTIFICATE: [20.0]}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        "\xff",
        '{"version": 2, "accepted": {}}',
        '{"version": 1, "accepted": []}',
        '{"version": 1, "accepted": {"xyz": []}}',
        '{"version": 1, "accepted": {"ab": [null]}}',
        '{"version": 1, "accepted": {"ab": 5}}',
        '{"version": 1, "accepted": {"ab": [NaN]}}',
        '{"version": 1, "accepted": {"ab": [-Infinity]}}',
        '{"version": 1, "accepted": {"ab": ["1"]}}',
        '{"version": 1, "accepted": {"ab": [1' + "0" * 400 + "]}}",
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, content) -> None:
    path = tmp_path / "accepted.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(LocalError, match="not what was stored") as caught:
        load_accepted(path, AFTER)
    assert str(path) in caught.value.reason


def test_what_cannot_be_read_or_written_is_one_line(tmp_path, caplog) -> None:
    path = tmp_path / "accepted.json"
    path.mkdir()
    with pytest.raises(LocalError, match="Is a directory"):
        load_accepted(path, AFTER)
    with caplog.at_level(logging.ERROR):
        save_accepted(path, {}, AFTER)
    assert [record.message for record in caplog.records] == [f"cannot write {path}: Is a directory"]


def test_the_file_can_be_read_by_people(tmp_path) -> None:
    path = tmp_path / "accepted.json"
    save_accepted(path, {CERTIFICATE: (4990.0,)}, BEFORE)
    assert json.loads(path.read_text()) == {"version": 1, "accepted": {"63" * 32: [BEFORE.utc_s - 10.0]}}
