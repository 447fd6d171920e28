"""The phase table: complete, and strict with what is not in it."""

import pytest

from flashflow.model.clock import Now
from measurer.core.measurement import DEADLINES_S, TRANSITIONS, Phase, Trigger, begin, enter
from support.wire_pair import order

NOW = Now(100.0, 1.8e9)


def test_every_phase_has_a_deadline_and_all_but_the_last_can_be_stopped() -> None:
    assert set(DEADLINES_S) == set(Phase)
    stoppable = {phase for phase, trigger in TRANSITIONS if trigger is Trigger.STOPPED}
    assert stoppable == set(Phase) - {Phase.STOPPING}


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("trigger", list(Trigger))
def test_only_listed_pairs_move_a_measurement(phase: Phase, trigger: Trigger) -> None:
    meas = begin(order(), NOW)
    meas.phase = phase
    if (phase, trigger) in TRANSITIONS:
        enter(meas, trigger, NOW)
        assert meas.phase is TRANSITIONS[phase, trigger]
    else:
        with pytest.raises(KeyError):
            enter(meas, trigger, NOW)


def test_the_active_phase_lasts_as_long_as_its_traffic() -> None:
    meas = begin(order(dur_s=30, warmup_s=3), NOW)
    assert meas.deadline_s == 104.0
    meas.phase = Phase.STARTING
    enter(meas, Trigger.STARTED, NOW)
    assert meas.deadline_s == 139.0


@pytest.mark.parametrize(
    ("n_circs", "built", "enough"),
    [(4, 2, True), (4, 1, False), (5, 3, True), (5, 2, False), (1, 1, True), (1, 0, False)],
)
def test_half_of_the_circuits_asked_for_are_enough(n_circs: int, built: int, enough: bool) -> None:
    meas = begin(order(n_circs=n_circs), NOW)
    meas.circuits = {str(number): number < built for number in range(n_circs)}
    assert meas.has_enough is enough
