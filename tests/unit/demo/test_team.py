"""The slots of a deployment in which all is measured by `ctrl measure`."""

import pytest

from flashflow.demo.team import LONGEST_SLOT_S, rare_slot_s


@pytest.mark.parametrize("now_utc_s", [1.8e9 + 86_400.5 * day for day in range(15)])
def test_the_next_slot_comes_in_days(now_utc_s: float) -> None:
    """Also where weeks since 1970 begin, on Thursdays at 00:00 UTC."""
    slot_s = rare_slot_s(now_utc_s)
    assert LONGEST_SLOT_S * 0.99 < slot_s <= LONGEST_SLOT_S
    assert 0.49 * slot_s < now_utc_s % slot_s < 0.51 * slot_s
