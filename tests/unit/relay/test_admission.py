from dataclasses import replace

import pytest

from flashflow.orlink.meas import MeasErrCode
from flashflow.relay.core.admission import AdmissionRules, Admissions
from support.mini_client import params

TRUSTED = b"c" * 32
OTHER = b"o" * 32
RULES = AdmissionRules(frozenset({TRUSTED, OTHER}), period_s=100.0, max_per_period=2, max_duration_s=60)
GOOD = params(b"t" * 16, b"u" * 16, duration_s=60)


@pytest.mark.parametrize(
    ("certificate", "wanted", "busy", "expected"),
    [
        (TRUSTED, GOOD, False, None),
        (None, GOOD, False, MeasErrCode.NOT_TRUSTED),
        (b"x" * 32, GOOD, False, MeasErrCode.NOT_TRUSTED),
        (b"x" * 32, None, True, MeasErrCode.NOT_TRUSTED),
        (TRUSTED, None, False, MeasErrCode.BAD_PARAMS),
        (TRUSTED, replace(GOOD, version=2), False, MeasErrCode.BAD_VERSION),
        (TRUSTED, replace(GOOD, duration_s=61), False, MeasErrCode.BAD_PARAMS),
        (TRUSTED, params(b"t" * 16, b"t" * 16), False, MeasErrCode.BAD_PARAMS),
        (TRUSTED, GOOD, True, MeasErrCode.BUSY),
    ],
)
def test_who_is_refused_and_why(certificate, wanted, busy, expected) -> None:
    assert Admissions(RULES, {}).refusal(certificate, wanted, busy, 0.0) is expected


def test_nobody_is_trusted_by_default() -> None:
    admissions = Admissions(AdmissionRules(frozenset()), {})
    assert admissions.refusal(TRUSTED, GOOD, False, 0.0) is MeasErrCode.NOT_TRUSTED


def test_two_in_any_window_of_a_period() -> None:
    admissions = Admissions(RULES, {})
    for now_s in (0.0, 90.0):
        assert admissions.refusal(TRUSTED, GOOD, False, now_s) is None
        admissions.accept(TRUSTED, now_s)
    assert admissions.refusal(TRUSTED, GOOD, False, 99.9) is MeasErrCode.TOO_MANY
    assert admissions.refusal(TRUSTED, GOOD, False, 100.0) is None
    admissions.accept(TRUSTED, 100.0)
    assert admissions.refusal(TRUSTED, GOOD, False, 189.9) is MeasErrCode.TOO_MANY


def test_each_coordinator_has_its_own_count() -> None:
    admissions = Admissions(RULES, {})
    admissions.accept(TRUSTED, 0.0)
    admissions.accept(TRUSTED, 0.0)
    assert admissions.refusal(TRUSTED, GOOD, False, 1.0) is MeasErrCode.TOO_MANY
    assert admissions.refusal(OTHER, GOOD, False, 1.0) is None


def test_a_refusal_does_not_count() -> None:
    admissions = Admissions(RULES, {})
    for _ in range(5):
        assert admissions.refusal(TRUSTED, GOOD, True, 0.0) is MeasErrCode.BUSY
    assert admissions.refusal(TRUSTED, GOOD, False, 0.0) is None
