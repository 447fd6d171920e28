"""What the coordinator's parts get of coord.conf: each key's value arrives in the field that is meant."""

from configparser import RawConfigParser
from dataclasses import MISSING, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from coordinator.app import params_of, pipeline_settings
from coordinator.core.params import Params
from coordinator.inputs.relay_pipeline import RelayPipelineSettings
from flashflow import __version__
from flashflow.config.coord import DEFAULTS, CoordConfig, load_coord

TEXT = """
[v3bw]
interval = 1800

[meas_params]
meas_duration = 20
bg_percent = 0.1
warmup = 3
slot = 120
period = 7200
multiplier = 3.1
multiplier_known = 1.7
epsilon1 = 0.15
epsilon2 = 0.07

[schedule]
strategy = fastest
co_location = prefix family
secret = shared/secret
deployment = 2
deployments = 7

[pipeline]
workers = 4
queue = 77
tries = 5
retry_after = 2.5
timeout = 41
stop_timeout = 6.25

[directory]
consensus = consensus
refresh = 900
"""
PARAMS: dict[str, Any] = {
    "duration_s": 20,
    "background_ratio": Fraction(1, 10),
    "warmup_s": 3,
    "slot_s": 120,
    "period_s": 7200,
    "multiplier": Fraction(31, 10),
    "multiplier_known": Fraction(17, 10),
    "epsilon1": Fraction(3, 20),
    "epsilon2": Fraction(7, 100),
    "strategy": "fastest",
    "colocation": frozenset({"family", "prefix"}),
    "deployment": 2,
    "deployments": 7,
    "v3bw_interval_s": 1800,
    "directory_refresh_s": 900,
    "version": __version__,
}
PIPELINE: dict[str, Any] = {
    "workers": 4,
    "queue_bound": 77,
    "tries": 5,
    "retry_after_s": 2.5,
    "timeout_s": 41.0,
    "join_timeout_s": 6.25,
}
NOT_THE_CORES = {"secret"}
"""Keys of these sections that are no fields: the secret's file is read by the service."""


def values(settings: Params | RelayPipelineSettings) -> dict[str, Any]:
    """Its fields by name."""
    return {field.name: getattr(settings, field.name) for field in fields(settings)}


def defaults(kind: type[Params | RelayPipelineSettings]) -> dict[str, Any]:
    """What its fields are if nobody sets them."""
    assert all(field.default is not MISSING for field in fields(kind))
    return {field.name: field.default for field in fields(kind)}


def keys(text: str, section: str) -> set[str]:
    """The keys that a section has in a configuration."""
    parser = RawConfigParser()
    parser.read_string(text)
    return set(parser[section])


@pytest.fixture
def config(tmp_path: Path) -> CoordConfig:
    path = tmp_path / "coord.conf"
    path.write_text(TEXT)
    return load_coord(path)


@pytest.fixture
def usual(tmp_path: Path) -> CoordConfig:
    """Of a file that sets nothing."""
    path = tmp_path / "usual.conf"
    path.write_text("[directory]\nconsensus = consensus\n")
    return load_coord(path)


def test_the_text_sets_every_key_and_each_has_a_field() -> None:
    set_here = {name: keys(TEXT, name) for name in ("meas_params", "schedule", "pipeline")}
    assert set_here == {name: keys(DEFAULTS, name) for name in set_here}
    for_the_core = (set_here["meas_params"] | set_here["schedule"]) - NOT_THE_CORES
    assert len(PARAMS) == len(for_the_core) + len(["v3bw.interval", "directory.refresh", "version"])
    assert len(PIPELINE) == len(set_here["pipeline"])


def test_the_cores_parameters(config: CoordConfig) -> None:
    assert values(params_of(config)) == PARAMS


def test_decimal_fractions_are_exact(config: CoordConfig) -> None:
    params = values(params_of(config))
    exact = {name for name, value in params.items() if isinstance(value, Fraction)}
    assert exact == {"background_ratio", "multiplier", "multiplier_known", "epsilon1", "epsilon2"}


def test_the_pipelines_settings(config: CoordConfig) -> None:
    assert values(pipeline_settings(config)) == PIPELINE


def test_no_value_is_a_default(config: CoordConfig, usual: CoordConfig) -> None:
    """Neither the field's own, which a dropped line leaves, nor that of a key which is not read; none stands twice."""
    for found, unset, kind in (
        (params_of(config), params_of(usual), Params),
        (pipeline_settings(config), pipeline_settings(usual), RelayPipelineSettings),
    ):
        ours = values(found)
        assert [name for name, default in defaults(kind).items() if ours[name] == default] == []
        assert [name for name, value in values(unset).items() if ours[name] == value] in ([], ["version"])
        assert len(set(ours.values())) == len(ours)


def test_the_secrets_file(config: CoordConfig, tmp_path: Path) -> None:
    assert config.schedule_secret == tmp_path / "shared" / "secret"
