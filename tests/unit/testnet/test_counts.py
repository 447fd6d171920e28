import json

import pytest

from flashflow.model.errors import LocalError
from flashflow.testnet.counts import Count, median_read_mbps, per_second_read_bytes, read_counts


def write(path, counts: list[tuple[float, int]], end: str = "") -> None:
    lines = [
        json.dumps({"utc_s": utc_s, "read_bytes": read, "written_bytes": 0}) + "\n" for utc_s, read in counts
    ]
    path.write_text("".join(lines) + end)


def test_seconds_are_interpolated_at_their_boundaries(tmp_path) -> None:
    path = tmp_path / "counts"
    write(path, [(9.9, 0), (10.1, 200), (10.9, 1000), (11.1, 1400), (12.0, 5900), (13.0, 5900)])
    assert per_second_read_bytes(path, 10.0, 3) == pytest.approx([1100, 4700, 0])


def test_the_median_is_in_megabits(tmp_path) -> None:
    path = tmp_path / "counts"
    write(path, [(0.0, 0), (1.0, 125_000), (2.0, 1_125_000), (3.0, 1_375_000)])
    assert median_read_mbps(path, 0.0, 3) == pytest.approx(2.0)


def test_half_a_line_at_the_end_is_left_out(tmp_path) -> None:
    path = tmp_path / "counts"
    write(path, [(1.0, 5)], end='{"utc_s": 1.1, "re')
    assert read_counts(path) == [Count(1.0, 5, 0)]


@pytest.mark.parametrize("start", [0.0, 2.5, 99.0])
def test_seconds_that_were_not_counted(tmp_path, start) -> None:
    path = tmp_path / "counts"
    write(path, [(1.0, 5), (2.0, 6), (3.0, 7)])
    with pytest.raises(LocalError, match="nothing was counted around"):
        per_second_read_bytes(path, start, 2)


@pytest.mark.parametrize("text", ["hello\n", "[]\n", '{"utc_s": 1}\n', '{"utc_s": "x", "read_bytes": 1}\n'])
def test_what_is_no_counts_file(tmp_path, text) -> None:
    path = tmp_path / "counts"
    path.write_text(text)
    with pytest.raises(LocalError, match=r"line 1: .* is no count"):
        read_counts(path)


def test_no_file(tmp_path) -> None:
    with pytest.raises(LocalError, match="counts file"):
        read_counts(tmp_path / "none")
