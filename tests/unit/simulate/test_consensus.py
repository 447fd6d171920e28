"""What a simulation reads of a consensus: either flavour, however compressed; relays that run, with keys."""

import gzip
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.simulate.consensus import read_network
from flashflow.model.errors import LocalError
from support.consensus_files import as_microdesc, entry
from support.directory_files import EXCERPT, consensus_of, descriptor_of, entry_of, fingerprint_of


def zstd(text: bytes) -> bytes:
    return pytest.importorskip("zstandard").compress(text)


def plain(text: bytes) -> bytes:
    return text


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "consensus"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(LocalError) as caught:
        read_network(path)
    assert caught.value.reason.startswith(f"{path}: ")
    assert "\n" not in caught.value.reason
    return caught.value.reason.removeprefix(f"{path}: ")


@pytest.mark.parametrize("compress", [plain, lzma.compress, gzip.compress, zstd])
def test_both_flavours_give_the_same_network(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    ordinary = read_network(EXCERPT)
    path = written(tmp_path, compress(as_microdesc(EXCERPT.read_text()).encode()))
    assert read_network(path) == ordinary
    assert len(ordinary.relays) == 11
    by_name = {relay.nickname: relay for relay in ordinary.relays}
    assert by_name["seele"].consensus_weight_kb == 7
    assert by_name["seele"].address == ("67.174.243.193", 9001)
    assert [name for name, relay in by_name.items() if relay.unmeasured] == ["insist", "snap277", "bastet"]
    assert ordinary.header.shared_random_current is not None


def test_every_relay_can_be_measured_and_has_keys_of_its_own(tmp_path: Path) -> None:
    relays = read_network(EXCERPT).relays
    assert all(relay.measurable for relay in relays)
    keys = {key for relay in relays for key in (relay.ed25519, relay.ntor_key)}
    assert len(keys) == 2 * len(relays)
    assert read_network(EXCERPT).relays == relays


def test_relays_that_do_not_run_are_left_out(tmp_path: Path) -> None:
    text = consensus_of(entry(1, 5), entry(2, 5, flags="Valid"), entry(3, 5))
    assert [relay.nickname for relay in read_network(written(tmp_path, text)).relays] == ["test1", "test3"]
    path = written(tmp_path, consensus_of(entry(2, 5, flags="Valid")))
    assert refusal(path) == "lists no relay with the flag Running"
    assert refusal(written(tmp_path, consensus_of())) == "lists no relay with the flag Running"


def test_descriptors_tell_keys_and_bandwidths(tmp_path: Path) -> None:
    descriptors = tmp_path / "descriptors"
    descriptors.write_text(descriptor_of(1))
    network = read_network(written(tmp_path, consensus_of(entry_of(1), entry_of(2))), descriptors)
    found = {relay.fingerprint: relay for relay in network.relays}
    assert found[fingerprint_of(1)].bandwidth_avg_bytes == 5_000_000
    assert found[fingerprint_of(2)].bandwidth_avg_bytes is None
    assert all(relay.measurable for relay in network.relays)


def test_an_entry_that_cannot_be_read_costs_itself_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = entry(2, 5).replace("9001", "port")
    path = written(tmp_path, consensus_of(entry(1, 5), broken, entry(1, 5), entry(3, 5)))
    network = read_network(path)
    assert [relay.nickname for relay in network.relays] == ["test1", "test3"]
    assert caplog.messages == [f"{path}: 2 router entries cannot be read and are left out"]
    assert network.relays[0] == replace(network.relays[0], consensus_weight_kb=5)
    assert refusal(written(tmp_path, consensus_of(broken))) == (
        "damaged: 1 of its 1 router entries cannot be read"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a consensus: expected it to begin with network-status-version"),
        (
            "@type network-status-consensus-3 1.0\n",
            "not a consensus: expected it to begin with network-status-version",
        ),
        (
            "router test 127.0.0.1 9001 0 0\n",
            "not a consensus: expected it to begin with network-status-version",
        ),
        (b"\x00\xff\xfe" * 50, "not a consensus: expected it to begin with network-status-version"),
        ("network-status-version 2\n", "expected a consensus of version 3"),
        ("network-status-version\n", "expected a consensus of version 3"),
        ("network-status-version 3 other\n", "expected a consensus of version 3"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str | bytes, reason: str) -> None:
    assert refusal(written(tmp_path, text)) == reason


def test_a_consensus_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    text = as_microdesc(EXCERPT.read_text())
    reason = "damaged: the consensus is cut off, it has no directory-footer"
    assert refusal(written(tmp_path, text[: len(text) // 2])) == reason
