import json
from pathlib import Path
from statistics import median

import pytest

from flashflow.model.errors import LocalError
from flashflow.testnet.tornet_bw import (
    CELL_SHARE,
    BwSecond,
    counts_path,
    median_bw_read_mbps,
    read_bw,
    recorder_command,
)

START_S = 1_800_000_000.0
MBPS = 125_000
COUNTER_BYTES = 7 * MBPS


def record(path: Path, *read_mbps: float, offset_s: float = 0.4) -> Path:
    """A file as of a tor whose first second ends `offset_s` after START_S."""
    lines = [
        {
            "utc_s": START_S + offset_s + n,
            "monotonic_s": 5.0 + n,
            "read_bytes": int(mbps * MBPS),
            "written_bytes": 7,
        }
        for n, mbps in enumerate(read_mbps)
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    readings = [
        {"utc_s": START_S - 1 + n / 10, "read_bytes": COUNTER_BYTES * n // 10, "written_bytes": 0}
        for n in range(90)
    ]
    counts_path(path).write_text("".join(f"{json.dumps(line)}\n" for line in readings))
    return path


def test_only_seconds_that_lie_within_the_measurement_count(tmp_path: Path) -> None:
    # the events of 0.4, 4.4 and 5.4 s are partly or wholly of seconds before and after the measurement's
    path = record(tmp_path / "bw", 1000, 8, 9, 10, 1000, 1000)
    found = median_bw_read_mbps(path, START_S, 4)
    assert (found.raw_mbps, found.seconds) == (9, 3)
    assert found.cell_mbps == pytest.approx(9 * 16_384 / 16_406)
    assert found.cell_mbps == 9 * CELL_SHARE
    assert found.spread == pytest.approx(2 / 9)


def test_the_counter_is_read_at_the_measurement_s_own_seconds(tmp_path: Path) -> None:
    found = median_bw_read_mbps(record(tmp_path / "bw", 8, 8, 8, 8, 8), START_S, 4)
    assert found.counter_mbps == pytest.approx(7 * CELL_SHARE)


@pytest.mark.parametrize(
    ("offset_s", "counted"), [(0.0, (8, 9, 10, 12)), (0.02, (8, 9, 10, 12)), (0.98, (500, 8, 9, 10))]
)
def test_an_event_may_be_a_little_late_or_early(
    tmp_path: Path, offset_s: float, counted: tuple[int, ...]
) -> None:
    path = record(tmp_path / "bw", 500, 8, 9, 10, 12, offset_s=offset_s)
    found = median_bw_read_mbps(path, START_S, 4)
    assert (found.raw_mbps, found.seconds) == (median(counted), 4)


def test_a_measurement_that_was_not_recorded_has_no_median(tmp_path: Path) -> None:
    path = record(tmp_path / "bw", 8, 8, 8)
    with pytest.raises(LocalError, match=r"bw: 2 BW events from 18.*, 4 s expected"):
        median_bw_read_mbps(path, START_S, 4)


def test_a_single_second_needs_an_event(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="0 BW events"):
        median_bw_read_mbps(record(tmp_path / "bw", 8), START_S, 1)


def test_half_a_line_is_left_out(tmp_path: Path) -> None:
    path = record(tmp_path / "bw", 8)
    path.write_text(path.read_text() + '{"utc_s": 1')
    assert read_bw(path) == [BwSecond(START_S + 0.4, 5.0, 8 * MBPS, 7)]


@pytest.mark.parametrize("line", ["", "7", "[]", "{}", '{"utc_s": "x"}', "\x00"])
def test_another_file_is_told_from_a_record(tmp_path: Path, line: str) -> None:
    path = record(tmp_path / "bw", 8)
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(LocalError, match=r"line 2: .* is no BW event"):
        read_bw(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot read the BW events"):
        read_bw(tmp_path / "bw")


def test_a_recorder_is_told_place_and_file_of_each_tor(tmp_path: Path) -> None:
    command = recorder_command({tmp_path / "a": Path("/run/tor/control"), tmp_path / "b": Path("/x/y")})
    assert command[2:] == [
        "flashflow.testnet.tornet_bw",
        *("/run/tor/control", str(tmp_path / "a")),
        *("/x/y", str(tmp_path / "b")),
    ]
