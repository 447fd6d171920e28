"""`flashflow config check FILE`: reads a configuration as the service would, and says what it found in one line."""

import shutil
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flashflow.cli.app import App
from flashflow.config.coord import DEFAULTS as COORD_DEFAULTS
from flashflow.config.coord import CoordConfig, load_coord
from flashflow.config.ini import read_sections
from flashflow.config.measurer import DEFAULTS as MEASURER_DEFAULTS
from flashflow.config.measurer import MeasurerConfig, load_measurer
from flashflow.directory.filter import RelayFilter, load_filter
from flashflow.model.errors import UsageError
from flashflow.model.units import to_mbps

app = App(help="Configuration files of the coordinator and of measurers.")


class Kind(StrEnum):
    """Whose configuration a file is."""

    COORD = "coord"
    MEASURER = "measurer"


@app.callback()
def group() -> None:
    """Configuration files of the coordinator and of measurers."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The configuration file.")],
    kind: Annotated[Kind | None, typer.Option(help="Whose it is (default: told from its sections).")] = None,
) -> None:
    """Check FILE: one line if it is in order (exit status 0), else one that says what is wrong (2)."""
    if (kind or _kind(file)) is Kind.COORD:
        config = load_coord(file)
        relay_filter = load_filter(config.relay_filter)
        _warn(_missing_coord(config) + _loops(config.relay_filter, relay_filter))
        print(f"{file}: {_coord_line(config, relay_filter)}")
    else:
        settings = load_measurer(file)
        _warn(_missing_measurer(settings))
        print(f"{file}: {_measurer_line(settings)}")


def _kind(file: Path) -> Kind:
    """Told by the sections that only one of the two has."""
    sections = set(read_sections(file))
    own = {Kind.COORD: _sections(COORD_DEFAULTS), Kind.MEASURER: _sections(MEASURER_DEFAULTS)}
    shared = own[Kind.COORD] & own[Kind.MEASURER]
    kinds = [kind for kind, names in own.items() if sections & (names - shared)]
    if len(kinds) != 1:
        found = "both a coordinator and" if kinds else "neither a coordinator nor"
        raise UsageError(f"{file}: has sections of {found} a measurer: use --kind coord|measurer")
    return kinds[0]


def _sections(defaults: str) -> set[str]:
    return {line[1:-1] for line in defaults.splitlines() if line.startswith("[")}


def _coord_line(config: CoordConfig, relay_filter: RelayFilter) -> str:
    allowing = sum(rule.allow for rule in relay_filter.rules)
    return (
        f"OK, a coordinator: measurers at {config.listen_addr}, controllers at {config.ctrl_addr}, "
        f"{config.meas_duration_s} s in slots of {config.slot_s} s, "
        f"relay filter with {len(relay_filter.rules)} rules ({allowing} allow)"
    )


def _measurer_line(config: MeasurerConfig) -> str:
    rate = f"{to_mbps(config.max_rate_bytes):g} Mbit/s"
    return f"OK, a measurer: coordinator at {config.coord_addr}, at most {rate}, {config.workers} workers"


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)


def _missing_coord(config: CoordConfig) -> list[str]:
    key: dict[str, Path | None] = {"[coord] key": config.key}
    if config.directory_source == "file":
        consensus = {"[directory] consensus": config.consensus, "[directory] descriptors": config.descriptors}
        return _missing({**key, **consensus})
    return _missing(key) + _missing_tor(config)


def _missing_tor(config: CoordConfig) -> list[str]:
    if not config.starts_directory_tor or shutil.which(config.directory_tor_bin):
        return []
    return [f"[directory] tor_bin: no such program: {config.directory_tor_bin}"]


def _missing_measurer(config: MeasurerConfig) -> list[str]:
    return _missing({"[measurer] key": config.key, "[measurer] coord_cert": config.coord_cert})


def _missing(files: dict[str, Path | None]) -> list[str]:
    """A service will not start without these; they may well come after the configuration."""
    return [
        f"{name}: no such file yet: {path}" for name, path in files.items() if path and not path.is_file()
    ]


def _loops(path: Path, relay_filter: RelayFilter) -> list[str]:
    """Nobody but this file consents to a loop measurement."""
    return [
        f"{path}, line {rule.line}: mode=loop loads {rule.who} to its limit without asking it"
        for rule in relay_filter.rules
        if rule.allow and rule.mode == "loop"
    ]
