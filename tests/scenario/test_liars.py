"""Relays that lie about their background or their pace: what that gains, at most 1/(1-r), beside what they carried.

The relay can carry TRUE_BYTES a second, all in all. A lie is a list of seconds: what the measurers got back, and the
background reports that the relay sends in that second (count, seconds too early). The result is the coordinator's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.params import Params
from flashflow.torctl import events as tor
from support.coordinator_world import World

TRUE_BYTES = 1_000_000
R = Fraction(1, 4)
MOST_GAIN = float(1 / (1 - R)) * 1.03
SECONDS = 5


@dataclass(frozen=True)
class Second:
    """One second of a measurement."""

    echoed: int
    """What came back to the measurers."""
    claimed: int | None
    """What the relay says of its background; None: nothing."""


Lie = Callable[[int], Second]


def result_of(lie: Lie, params: Params | None = None) -> tuple[int | None, str | None]:
    """The measurement's result, or why it failed."""
    world = World(params)
    world.start()
    meas_id = world.to_phase("active")
    for n in range(1, SECONDS + world.params.warmup_s + 1):
        world.sleep(1.0)
        second = lie(n - world.params.warmup_s)
        if second.claimed is not None and world.core.state.measurements:
            world.say(tor.BwReport(meas_id, n, second.claimed, second.claimed))
        if n > world.params.warmup_s and world.core.state.measurements:
            for name, share in (("m1", second.echoed // 2), ("m2", second.echoed - second.echoed // 2)):
                world.report(name, n - world.params.warmup_s, share)
    world.sleep(6.0)
    done = world.store()
    return done["result_bytes"], done["failure"] and done["failure"]["reason"]


def gain_of(lie: Lie) -> float:
    result, reason = result_of(lie)
    assert reason is None, reason
    return (result or 0) / TRUE_BYTES


HALF = TRUE_BYTES // 2
LIES: dict[str, tuple[Lie, float]] = {
    "honest, no background": (lambda n: Second(TRUE_BYTES, 0), 1.0),
    "honest, a quarter of background": (lambda n: Second(TRUE_BYTES * 3 // 4, TRUE_BYTES // 4), 1.0),
    "more background than is believed": (lambda n: Second(HALF, HALF), 2 / 3),
    "background of 0 though there is some": (lambda n: Second(TRUE_BYTES * 3 // 4, 0), 0.75),
    "no report at all": (lambda n: Second(TRUE_BYTES * 3 // 4, None), 0.75),
    "background dropped and claimed": (lambda n: Second(TRUE_BYTES, TRUE_BYTES), 4 / 3),
    "ten times the background": (lambda n: Second(TRUE_BYTES * 3 // 4, TRUE_BYTES * 10 // 4), 1.0),
    "an absurd claim": (lambda n: Second(TRUE_BYTES, 2**60), 4 / 3),
    "stalled in the last second": (lambda n: Second(0 if n == SECONDS else TRUE_BYTES, TRUE_BYTES), 4 / 3),
    "stored, then burst at the end": (
        lambda n: Second(TRUE_BYTES * (SECONDS if n == SECONDS else 0), TRUE_BYTES),
        0.0,
    ),
    "drips": (lambda n: Second(514, TRUE_BYTES), 0.001),
    "a burst in every other second": (lambda n: Second(2 * TRUE_BYTES * (n % 2 == 0), 2**40), 0.0),
}


@pytest.mark.parametrize("name", LIES)
def test_what_a_lie_gains(name: str) -> None:
    lie, expected = LIES[name]
    gain = gain_of(lie)
    print(f"{name}: {gain:.3f}")
    assert gain == pytest.approx(expected, abs=0.01)
    assert gain <= MOST_GAIN


def test_with_another_clamp_the_bound_would_be_broken() -> None:
    loose = Params(duration_s=SECONDS, background_ratio=Fraction(49, 100))
    result, _ = result_of(lambda n: Second(TRUE_BYTES, TRUE_BYTES), loose)
    assert (result or 0) / TRUE_BYTES > MOST_GAIN


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, TRUE_BYTES), st.none() | st.integers(0, 2**60)),
        min_size=SECONDS + 2,
        max_size=SECONDS + 2,
    )
)
def test_no_mixture_of_lies_gains_more(seconds: list[tuple[int, int | None]]) -> None:
    """Whatever it claims, as long as no second carries more than it can."""
    result, _ = result_of(lambda n: Second(*seconds[n + 1]))  # who leaves a report out has failed
    assert (result or 0) / TRUE_BYTES <= MOST_GAIN


def played() -> tuple[World, int]:
    world = World()
    world.start()
    return world, world.to_phase("active")


@pytest.mark.parametrize(
    ("what", "say"),
    [
        ("too often", lambda world, meas_id: [world.say(tor.BwReport(meas_id, n, 1, 1)) for n in (1, 2)]),
        ("too early", lambda world, meas_id: world.say(tor.BwReport(meas_id, 3, 1, 1))),
        ("skipping", lambda world, meas_id: world.say(tor.BwReport(meas_id, 2, 1, 1))),
        ("negative", lambda world, meas_id: world.say(tor.BwReport(meas_id, 1, -5, 7))),
    ],
)
def test_reports_against_the_rules_are_the_relays_failure(what: str, say: Callable[..., object]) -> None:
    world, meas_id = played()
    world.sleep(0.2 if what == "too often" else 1.0)
    say(world, meas_id)
    failure = world.store()["failure"]
    assert (failure["fault"], "background report" in failure["reason"]) == ("relay", True)


def test_a_relay_that_aborts_whenever_it_looks_bad_loses_its_old_result() -> None:
    """Three times in a row, and what was published before is not published any more."""
    standings: tuple = ()
    for _ in range(3):
        world = World()
        world.start(standings=standings)
        meas_id = world.to_phase("active")
        world.play_seconds(1, 3, recv=TRUE_BYTES // 10)
        world.say(tor.MeasEnd(meas_id, success=True, reason=None))
        assert world.store()["failure"]["fault"] == "relay"
        standings = tuple(world.core.state.standings.values())
    assert standings[0].excluded
