"""Whole files: the real network's, compressed, cut off, of other kinds; one bad entry costs itself only."""

import gzip
import json
import lzma
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flashflow.directory import parse
from flashflow.directory.opening import read_bounded
from support.directory_files import EXCERPT, consensus_of, descriptor_of, entry_of, fingerprint_of

REAL_FIRST = {
    "fingerprint": "000A10D43011EA4928A35F610405F92B4433B4DC",
    "nickname": "seele",
    "address": ["67.174.243.193", 9001],
    "more_addresses": [],
    "ed25519": None,
    "ntor_key": None,
    "bandwidth_avg_bytes": None,
    "bandwidth_burst_bytes": None,
    "bandwidth_observed_bytes": None,
    "consensus_weight_kb": 7,
    "unmeasured": False,
    "running": True,
    "family": [],
    "family_keys": [],
}


def run(capsys: pytest.CaptureFixture[str], *paths: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Warnings and relays."""
    status = parse.main([str(path) for path in paths])
    output = capsys.readouterr()
    assert (status, output.err) == (0, "")
    first, *lines = output.out.splitlines()
    return json.loads(first)["warnings"], [json.loads(line) for line in lines]


def refusal(capsys: pytest.CaptureFixture[str], *paths: Path) -> str:
    assert parse.main([str(path) for path in paths]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"error: {paths[-1]}")
    assert output.err.count("\n") == 1
    return output.err.strip().removeprefix(f"error: {paths[-1]}: ")


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_the_real_networks_relays(capsys: pytest.CaptureFixture[str]) -> None:
    warnings, relays = run(capsys, EXCERPT)
    assert warnings == []
    assert len(relays) == 11
    by_name = {relay["nickname"]: relay for relay in relays}
    assert by_name["seele"] == REAL_FIRST
    assert [name for name, relay in by_name.items() if relay["unmeasured"]] == ["insist", "snap277", "bastet"]
    assert by_name["Athena"]["address"] == ["104.244.79.75", 443]
    assert [relay["fingerprint"] for relay in relays] == sorted(relay["fingerprint"] for relay in relays)


@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress])
def test_compressed_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], compress: Any) -> None:
    consensus = write(tmp_path, "consensus", compress(EXCERPT.read_bytes()))
    assert len(run(capsys, consensus)[1]) == 11
    text = compress(consensus_of(entry_of(1)).encode())
    descriptors = write(tmp_path, "descriptors", compress(descriptor_of(1).encode()))
    _, (relay,) = run(capsys, write(tmp_path, "consensus", text), descriptors)
    assert relay["bandwidth_avg_bytes"] == 5_000_000


def test_descriptors_are_joined_by_fingerprint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    consensus = write(tmp_path, "consensus", consensus_of(*(entry_of(number) for number in (1, 2, 3))))
    text = '@downloaded-at 2020-03-05 10:00:00\n@source "127.0.0.1"\n'.join(
        ["", descriptor_of(3), descriptor_of(1)]
    )
    warnings, relays = run(capsys, consensus, write(tmp_path, "descriptors", text))
    assert warnings == []
    with_keys = {relay["fingerprint"] for relay in relays if relay["ed25519"] and relay["ntor_key"]}
    assert with_keys == {fingerprint_of(1), fingerprint_of(3)}
    assert len(relays) == 3


@pytest.mark.parametrize("newest_first", [True, False])
def test_the_newest_descriptor_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], newest_first: bool
) -> None:
    texts = [descriptor_of(1, 1_583_400_000.0, 1), descriptor_of(1, 1_583_300_000.0, 2)]
    path = write(tmp_path, "descriptors", "".join(texts if newest_first else texts[::-1]))
    _, (relay,) = run(capsys, write(tmp_path, "consensus", consensus_of(entry_of(1))), path)
    assert relay["bandwidth_avg_bytes"] == 1


def test_tors_file_of_fresh_descriptors_is_read_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    consensus = write(tmp_path, "consensus", consensus_of(entry_of(1), entry_of(2)))
    path = write(tmp_path, "cached-descriptors", descriptor_of(1, average=1))
    write(tmp_path, "cached-descriptors.new", descriptor_of(2, average=2))
    _, relays = run(capsys, consensus, path)
    assert {r["fingerprint"]: r["bandwidth_avg_bytes"] for r in relays} == {
        fingerprint_of(1): 1,
        fingerprint_of(2): 2,
    }


def test_one_bad_entry_costs_itself_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = entry_of(2).replace("r test2 ", "r test2 AAAA")
    consensus = write(tmp_path, "consensus", consensus_of(entry_of(1), bad, entry_of(3), entry_of(3)))
    broken = descriptor_of(3).replace("\npublished ", "\npublisher ")
    descriptors = write(tmp_path, "descriptors", descriptor_of(1) + broken + "router half")
    warnings, relays = run(capsys, consensus, descriptors)
    assert warnings == [
        f"{descriptors}: 2 server descriptors cannot be read and are left out",
        f"{consensus}: 2 router entries cannot be read and are left out",
    ]
    assert {relay["fingerprint"]: bool(relay["ntor_key"]) for relay in relays} == {
        fingerprint_of(1): True,
        fingerprint_of(3): False,
    }


def test_a_consensus_without_relays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, write(tmp_path, "consensus", consensus_of())) == ([], [])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_a_consensus_that_is_cut_off_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    data = EXCERPT.read_bytes()
    path = write(tmp_path, "consensus", data[: int(len(data) * share)])
    assert refusal(capsys, path) == "damaged: the consensus is cut off, it has no directory-footer"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "not a consensus: expected it to begin with network-status-version"),
        (b"@type network-status-consensus-3 1.0\n", "not a consensus: expected it to begin with"),
        (b"\x00\xff" * 1000, "not a consensus: expected it to begin with"),
        (b"network-status-version 2\n", "expected a consensus of version 3"),
        (
            b"network-status-version 3 microdesc\n",
            "is a microdescriptor consensus; expected the consensus with full",
        ),
        (lzma.compress(EXCERPT.read_bytes())[:-20], "damaged: cannot be decompressed: "),
        (lzma.compress(EXCERPT.read_bytes())[:60] + b"x" * 60, "damaged: cannot be decompressed: "),
        (gzip.compress(EXCERPT.read_bytes())[:-20], "damaged: cannot be decompressed: "),
        (gzip.compress(EXCERPT.read_bytes())[:30] + b"\xff" * 60, "damaged: cannot be decompressed: "),
        (consensus_of("r bad\n", "r worse\n").encode(), "damaged: 2 of its 2 router entries cannot be read"),
    ],
    ids=range(10),
)
def test_other_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, expected: str
) -> None:
    assert refusal(capsys, write(tmp_path, "consensus", data)).startswith(expected)


def test_descriptors_that_are_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for data in (b"", b"router x\n", EXCERPT.read_bytes()):
        path = write(tmp_path, "descriptors", data)
        assert refusal(capsys, EXCERPT, path) == "expected server descriptors, found none that can be read"


def test_files_that_cannot_be_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, tmp_path / "none") == "cannot be read: No such file or directory"
    assert refusal(capsys, EXCERPT, tmp_path) == "cannot be read: Is a directory"


def test_a_file_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parse, "read_bounded", partial(read_bounded, max_bytes=100_000))
    path = write(tmp_path, "consensus", lzma.compress(bytes(10_000_000)))
    assert refusal(capsys, path) == "larger than 100000 bytes, which no Tor network needs"
