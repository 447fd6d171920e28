"""`flashflow simulate`: what each option becomes in the simulation's settings."""

import json
from collections.abc import Callable
from dataclasses import MISSING, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from coordinator.simulate.settings import Settings
from flashflow.cli import main
from flashflow.model.network import Consensus, ConsensusHeader
from support.commands import flashflow_here

MBIT = 125_000
OPTIONS = {
    "--team": "2000,300.5,1",
    "--slot": "45",
    "--period": "3600",
    "--multiplier": "3.1",
    "--epsilon1": "0.15",
    "--epsilon2": "0.07",
    "--strategy": "uniform",
    "--co-location": "prefix,address",
    "--noise": "0.25",
    "--seed": "11",
}
EXPECTED: dict[str, Any] = {
    "team_bytes": (2000 * MBIT, 300 * MBIT + MBIT // 2, MBIT),
    "slot_s": 45,
    "period_s": 3600,
    "multiplier": Fraction(31, 10),
    "epsilon1": Fraction(3, 20),
    "epsilon2": Fraction(7, 100),
    "strategy": "uniform",
    "colocation": frozenset({"address", "prefix"}),
    "noise": 0.25,
    "seed": 11,
}
NETWORK = Consensus(ConsensusHeader(), ())


class Played:
    """Takes the place of the reader and the simulation, and keeps what they are given."""

    def __init__(self) -> None:
        self.files: list[tuple[Path, Path | None]] = []
        self.settings: list[Settings] = []

    def read_network(self, consensus: Path, descriptors: Path | None = None) -> Consensus:
        self.files.append((consensus, descriptors))
        return NETWORK

    def simulate(
        self, network: Consensus, settings: Settings, on_slot: Callable[[int], None]
    ) -> dict[str, Any]:
        assert network is NETWORK
        self.settings.append(settings)
        on_slot(settings.period_s // settings.slot_s - 1)
        return {"relays": 7, "lower_bound_hours": 1 / 3}


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    one = Played()
    monkeypatch.setattr("coordinator.simulate.consensus.read_network", one.read_network)
    monkeypatch.setattr("coordinator.simulate.run.simulate", one.simulate)
    return one


def values(settings: Settings) -> dict[str, Any]:
    """Its fields by name."""
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


def test_each_option_arrives_in_its_field(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for option in OPTIONS.items() for word in option]
    files = ["--consensus", "some/consensus", "--descriptors", "some/descriptors"]
    result = flashflow_here(capsys, "simulate", *files, *words, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout) == {"relays": 7, "lower_bound_hours": 1 / 3}
    assert played.files == [(Path("some/consensus"), Path("some/descriptors"))]
    (settings,) = played.settings
    assert values(settings) == EXPECTED
    assert {type(settings.multiplier), type(settings.epsilon1), type(settings.epsilon2)} == {Fraction}
    assert {type(settings.strategy), type(settings.seed)} == {str, int}


def test_no_value_is_a_default_and_every_field_has_an_option(played: Played) -> None:
    """A line that is dropped or swapped with another cannot go unseen."""
    assert main(["simulate", "--consensus", "some/consensus"]) == 0
    (usual,) = played.settings
    assert [name for name, value in values(usual).items() if EXPECTED[name] == value] == []
    own = {field.name: field.default for field in fields(Settings) if field.default is not MISSING}
    assert [name for name, default in own.items() if EXPECTED[name] == default] == []
    assert len(EXPECTED) == len(set(EXPECTED.values())) == len(OPTIONS)


def test_without_options_the_settings_are_those_of_the_simulation(played: Played) -> None:
    assert main(["simulate", "--consensus", "some/consensus"]) == 0
    assert played.files == [(Path("some/consensus"), None)]
    assert played.settings == [Settings((1000 * MBIT,) * 3)]


def test_the_core_gets_of_the_settings_what_they_say(played: Played) -> None:
    words = [word for option in OPTIONS.items() for word in option]
    assert main(["simulate", "--consensus", "some/consensus", *words]) == 0
    params = played.settings[0].params()
    assert (params.slot_s, params.period_s) == (45, 3600)
    assert params.duration_s == 45 - 22
    assert params.warmup_s == 2
    assert {params.factor(ours=ours) for ours in (True, False)} == {Fraction("3.1") * Fraction(107, 85)}
    assert (params.epsilon1, params.epsilon2) == (Fraction("0.15"), Fraction("0.07"))
    assert (params.strategy, params.colocation) == ("uniform", {"address", "prefix"})
