"""What a consensus says before its first relay; whatever is wrong in it is as good as absent."""

import json
from base64 import b64encode

import pytest

from flashflow.directory.header import header_from_json, header_to_json, read_header
from flashflow.model.network import ConsensusHeader
from support.directory_files import EXCERPT

VALUE = b64encode(bytes(range(32))).decode()


def header(*lines: str) -> ConsensusHeader:
    return read_header([f"{line}\n".encode() for line in lines])


def test_the_real_networks_header() -> None:
    lines = EXCERPT.read_bytes().splitlines(keepends=True)
    found = read_header([line for line in lines if not line.startswith(b"r ")])
    assert found.valid_after_utc_s == 1583402400.0  # 2020-03-05 10:00:00
    assert found.params["DoSConnectionMaxConcurrentCount"] == 50
    assert found.shared_random_current == bytes.fromhex(
        "036cd23135cb627ee2d5cd990d26618170bb3443ee52746783787ebc04629674"
    )
    assert found.shared_random_previous is not None
    assert header_from_json(json.loads(json.dumps(header_to_json(found)))) == found


def test_a_young_networks_header_has_no_shared_random_value() -> None:
    found = header("network-status-version 3", "valid-after 2026-01-02 03:04:05", "params a=1 b=-2")
    assert found == ConsensusHeader(1767323045.0, {"a": 1, "b": -2})
    assert header_from_json(json.loads(json.dumps(header_to_json(found)))) == found


@pytest.mark.parametrize(
    "line",
    [
        "valid-after",
        "valid-after 2026-13-02 03:04:05",
        "valid-after 2026-01-02 03:04:05 +0100",
        "valid-after \u0662026-01-02 03:04:05",
        "params",
        "params a a= =1 a=1.5 a=x a=99999999999 a=2147483648 a=-2147483649 a\u0661=1",
        f"shared-rand-current-value {VALUE}",
        f"shared-rand-current-value 9 {VALUE[:-4]}",
        "shared-rand-current-value 9 !!!",
        "shared-rand-previous-value",
    ],
)
def test_what_cannot_be_read_is_absent(line: str) -> None:
    assert header(line) == ConsensusHeader()


def test_the_first_of_two_lines_counts() -> None:
    assert header("params a=1", "params a=2").params == {"a": 1}
