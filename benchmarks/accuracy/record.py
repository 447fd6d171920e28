"""One measurement beside its truth, and the file that holds them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class CpuUse:
    """What one process used during the measured seconds."""

    process: str
    """Which it is."""
    cpu_s: float
    """CPU seconds, user and system."""
    busiest_thread_s: float
    """CPU seconds of the thread that used most."""
    busiest_thread_wanted_s: float | None = None
    """The same and the seconds that it waited for a core; None if that was not recorded."""


@dataclass(frozen=True, slots=True)
class CpuFigures:
    """Who used the machine during a measurement."""

    wall_s: float
    """Seconds between the two samples."""
    relay_read_bytes: int
    """Cell bytes that the relay read meanwhile, by our reports."""
    uses: tuple[CpuUse, ...]
    """The processes that used something, the relay first."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement; rates are Mbit/s of cells that the relay read."""

    mode: str
    """echo or loop."""
    limit: str
    """What limited the relay: `relay` (its own configuration), `link`, or `none` (the machine)."""
    limit_mbps: float | None
    """That limit as it was configured; None for none."""
    together: int
    """How many relays were measured at the same time, this one included."""
    measured_mbps: float
    """FlashFlow's result; 0 if the measurement failed."""
    truth_mbps: float
    """The same by the count of another process; 0 if the measurement failed."""
    truth: str
    """Which count that is."""
    error_pct: float
    """measured_mbps against truth_mbps; 100 if the measurement failed."""
    failure: str | None = None
    """Why the measurement failed."""
    cpu: CpuFigures | None = None
    """Who used the machine, where it was the limit."""


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """One run of a group: the newest is kept."""

    commit: str
    """Of the code that measured."""
    machine: str
    """Its processor."""
    cpus: int
    """How many of them."""
    tor: str
    """Version of tor."""
    utc: str
    """When the run began, ISO 8601."""
    duration_s: int
    """Seconds that each measurement counts."""
    elapsed_s: float
    """How long the run took so far."""
    problem: str | None
    """What ended it before its last measurement."""
    measurements: tuple[Measurement, ...]
    """In the order in which they were made."""


Records = Mapping[str, GroupRecord]
"""By the group's name."""


def all_measurements(records: Records) -> list[Measurement]:
    """Those of every group."""
    return [one for record in records.values() for one in record.measurements]


def read_records(path: Path) -> dict[str, GroupRecord]:
    """The file's content; nothing if there is no file. ValueError if it is something else."""
    if not path.exists():
        return {}
    try:
        return {name: _record(value) for name, value in json.loads(path.read_text()).items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a file of make accuracy: {error!r}") from None


def write_records(path: Path, records: Records) -> None:
    """Replace the file in one step."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({name: asdict(record) for name, record in records.items()}, indent=1) + "\n")
    new.replace(path)


def _record(value: Mapping[str, Any]) -> GroupRecord:
    return GroupRecord(**{**value, "measurements": tuple(_measurement(one) for one in value["measurements"])})


def _measurement(value: Mapping[str, Any]) -> Measurement:
    cpu = value.get("cpu")
    return Measurement(**{**value, "cpu": None if cpu is None else _cpu(cpu)})


def _cpu(value: Mapping[str, Any]) -> CpuFigures:
    uses: Sequence[Mapping[str, Any]] = value["uses"]
    return CpuFigures(**{**value, "uses": tuple(CpuUse(**use) for use in uses)})
