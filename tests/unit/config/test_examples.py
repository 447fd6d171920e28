"""The commented examples show every key with its default."""

import configparser
from pathlib import Path

import pytest

from flashflow.config.coord import DEFAULTS as COORD_DEFAULTS
from flashflow.config.measurer import DEFAULTS as MEASURER_DEFAULTS

EXAMPLES = Path(__file__).parents[3] / "flashflow/config/examples"
OWN_VALUES = {("directory", "consensus"), ("directory", "descriptors")}
"""These have no default, and the example shows where they may be."""


def values(text: str) -> dict[tuple[str, str], str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    return {(section, key): parser[section][key] for section in parser.sections() for key in parser[section]}


@pytest.mark.parametrize(("name", "defaults"), [("coord", COORD_DEFAULTS), ("measurer", MEASURER_DEFAULTS)])
def test_an_example_shows_every_key_with_its_default(name: str, defaults: str) -> None:
    shown = values((EXAMPLES / f"{name}.conf.example").read_text())
    expected = values(defaults)
    assert list(shown) == list(expected)
    assert {key for key in shown if shown[key] != expected[key]} == (OWN_VALUES if name == "coord" else set())
