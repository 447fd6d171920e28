"""Small networks through one simulated period: what relays can do is what is found out, as far as the team can."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from coordinator.simulate.consensus import read_network
from coordinator.simulate.run import simulate, true_capacities
from coordinator.simulate.settings import Settings
from coordinator.simulate.world import Outcome, World
from flashflow.model.ids import Fingerprint
from flashflow.model.network import Consensus
from support.consensus_files import entry
from support.directory_files import consensus_of

MBIT = 125_000
TEAM = (100 * MBIT, 100 * MBIT, 50 * MBIT)
SETTINGS = Settings(TEAM, period_s=3600)
WEIGHTS_KB = [9000, 5000, 5000, 3000, 700, 250, 125, 126, 20, 0]


@pytest.fixture
def network(tmp_path: Path) -> Consensus:
    path = tmp_path / "consensus"
    path.write_text(consensus_of(*(entry(number, kb) for number, kb in enumerate(WEIGHTS_KB, start=1))))
    return read_network(path)


def played(network: Consensus, settings: Settings, true_bytes: dict[Fingerprint, int]) -> list[Outcome]:
    team = {f"m{number}": capacity for number, capacity in enumerate(settings.team_bytes)}
    world = World(settings.params(), network, true_bytes, team, b"\x07" * 32)
    world.run()
    return world.outcomes


def fingerprint(number: int) -> Fingerprint:
    return Fingerprint(f"{number:040X}")


TRUE_BYTES = {fingerprint(number): max(kb * 1000, MBIT) for number, kb in enumerate(WEIGHTS_KB, start=1)}


@pytest.mark.parametrize("strategy", ["fastest", "uniform"])
def test_each_relay_is_measured_once_at_what_it_can_do(network: Consensus, strategy: str) -> None:
    outcomes = played(network, replace(SETTINGS, strategy=strategy), TRUE_BYTES)
    assert len(outcomes) == len(WEIGHTS_KB)
    assert all(outcome.accepted for outcome in outcomes)
    found = {outcome.fingerprint: outcome.result_bytes for outcome in outcomes}
    # each measurer carries whole bytes only
    assert found == pytest.approx(TRUE_BYTES, abs=len(TEAM))


def test_fastest_uses_the_first_slots_and_uniform_any(network: Consensus) -> None:
    fastest = {outcome.slot for outcome in played(network, SETTINGS, TRUE_BYTES)}
    assert fastest == set(range(len(fastest)))
    uniform = {outcome.slot for outcome in played(network, replace(SETTINGS, strategy="uniform"), TRUE_BYTES)}
    assert max(uniform) > 20
    assert max(uniform) < 3600 // 30


def test_no_slot_is_filled_beyond_the_team(network: Consensus) -> None:
    filled: Counter[int] = Counter()
    for outcome in played(network, SETTINGS, TRUE_BYTES):
        filled[outcome.slot] += outcome.allocated_bytes
    assert max(filled.values()) <= sum(TEAM)


def test_a_relay_that_can_do_more_is_measured_again_with_more(network: Consensus) -> None:
    grown = fingerprint(4)
    outcomes = played(network, SETTINGS, TRUE_BYTES | {grown: 5_000_000})
    first, second = [outcome for outcome in outcomes if outcome.fingerprint == grown]
    assert len(outcomes) == len(WEIGHTS_KB) + 1
    assert not first.accepted
    assert second.accepted
    assert second.slot > first.slot
    assert second.allocated_bytes > 1.6 * first.allocated_bytes
    assert second.result_bytes == pytest.approx(5_000_000, abs=len(TEAM))


def test_a_relay_is_loaded_with_no_more_than_it_is_allocated(network: Consensus) -> None:
    grown = fingerprint(10)
    outcomes = played(network, SETTINGS, TRUE_BYTES | {grown: 10 * MBIT})
    first = next(outcome for outcome in outcomes if outcome.fingerprint == grown)
    assert first.result_bytes == pytest.approx(first.allocated_bytes, abs=len(TEAM))


def test_a_relay_beyond_the_team_is_limited_and_not_measured_again(network: Consensus) -> None:
    figures = simulate(network, replace(SETTINGS, team_bytes=(10 * MBIT,)))
    assert figures["measured"] == len(WEIGHTS_KB)
    # 9000 kB/s are 72 Mbit/s; accepted would be what is below 10 / 2.8125 Mbit/s
    assert figures["team_limited"] == sum(kb * 1000 >= 10 * MBIT / 2.8125 for kb in WEIGHTS_KB)
    assert figures["accepted"] == figures["measured"] - figures["team_limited"]
    assert figures["remeasured"] == 0


def test_the_same_seed_gives_the_same_figures(network: Consensus) -> None:
    noisy = replace(SETTINGS, strategy="uniform", noise=0.5, seed=3)
    timed = ("build_s", "run_s", "peak_mb")

    def figures(settings: Settings) -> dict[str, object]:
        return {name: value for name, value in simulate(network, settings).items() if name not in timed}

    assert figures(noisy) == figures(noisy)
    assert figures(noisy) != figures(replace(noisy, seed=4))


def test_noise_is_about_the_estimate() -> None:
    known = {fingerprint(number): 1_000_000 for number in range(2000)}
    assert true_capacities(known, SETTINGS) == known
    drawn = sorted(true_capacities(known, replace(SETTINGS, noise=0.2)).values())
    assert drawn[1000] == pytest.approx(1_000_000, rel=0.02)
    assert drawn[320] == pytest.approx(1_000_000 / 1.2214, rel=0.03)  # exp(0.2): one deviation below
    assert drawn[1680] == pytest.approx(1_000_000 * 1.2214, rel=0.03)


def test_a_period_too_short_for_all_leaves_relays_unmeasured(network: Consensus) -> None:
    figures = simulate(network, replace(SETTINGS, period_s=30))
    assert 0 < figures["measured"] < figures["relays"] == len(WEIGHTS_KB)
    assert figures["slots_used"] == 1


def test_relays_at_one_address_share_a_slot(tmp_path: Path) -> None:
    path = tmp_path / "consensus"
    path.write_text(consensus_of(*(entry(number, 1500, f"10.0.0.{number % 2}") for number in range(1, 9))))
    shared = replace(
        SETTINGS, team_bytes=(200 * MBIT,), strategy="uniform", colocation=frozenset({"address"})
    )
    known = {fingerprint(number): 1_500_000 for number in range(1, 9)}
    slots = {outcome.fingerprint: outcome.slot for outcome in played(read_network(path), shared, known)}
    assert len({slots[fingerprint(number)] for number in (1, 3, 5, 7)}) == 1
    assert len({slots[fingerprint(number)] for number in (2, 4, 6, 8)}) == 1
    apart = played(read_network(path), replace(shared, colocation=frozenset()), known)
    assert len({outcome.slot for outcome in apart}) > 2
    assert simulate(read_network(path), shared)["split_groups"] == 0
    small = replace(shared, team_bytes=(80 * MBIT,))
    assert simulate(read_network(path), small)["split_groups"] == 2


def test_the_allocation_is_f_times_the_estimate(network: Consensus) -> None:
    outcomes = played(network, replace(SETTINGS, multiplier=Fraction(2)), TRUE_BYTES)
    for outcome in outcomes:
        wanted = TRUE_BYTES[outcome.fingerprint] * 2 * 1.05 / 0.8
        assert outcome.allocated_bytes == pytest.approx(min(wanted, sum(TEAM)), abs=1)
