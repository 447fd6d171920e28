from pathlib import Path

import pytest

from flashflow.model.errors import LocalError
from flashflow.model.ids import Address, Fingerprint
from flashflow.testnet import tornet_node
from flashflow.testnet.tornet import TorNetwork, TorRelaySpec
from flashflow.testnet.tornet_documents import ConsensusEntry, consensus_entries, fetch
from flashflow.testnet.tornet_node import MissingTorError, TorNode, find_program, stop_nodes, wait_for

CONSENSUS = """network-status-version 3
vote-status consensus
r slow eNvi0VEBw31yVtvBAI1wTUSUA2U WPMV9c6K3jlHMF/LCvDAdkbCuRA 2038-01-01 00:00:00 127.0.0.1 9001 0
s Fast Running Valid
w Bandwidth=977
r new AGTsq0y0J01rJtqJ9SQoMt6l7k0 WPMV9c6K3jlHMF/LCvDAdkbCuRA 2038-01-01 00:00:00 127.0.0.1 9002 0
s Valid
w Bandwidth=0 Unmeasured=1
directory-footer
"""


def test_limits_of_a_relay_as_torrc_lines() -> None:
    assert TorRelaySpec("fast").limits() == []
    assert TorRelaySpec("slow", 8).limits() == [
        "RelayBandwidthRate 1000000 bytes",
        "RelayBandwidthBurst 1000000 bytes",
    ]
    assert TorRelaySpec("slow", 8, burst_mbps=80, max_advertised_mbps=4).limits() == [
        "RelayBandwidthRate 1000000 bytes",
        "RelayBandwidthBurst 10000000 bytes",
        "MaxAdvertisedBandwidth 500000 bytes",
    ]


def test_entries_of_a_consensus() -> None:
    slow, new = "78DBE2D15101C37D7256DBC1008D704D44940365", "0064ECAB4CB4274D6B26DA89F5242832DEA5EE4D"
    assert consensus_entries(CONSENSUS.encode()) == {
        Fingerprint(slow): ConsensusEntry("slow", True, 977, False),
        Fingerprint(new): ConsensusEntry("new", False, 0, True),
    }


def test_nothing_serves_no_document() -> None:
    assert fetch(Address("127.0.0.1", 1), "/tor/status-vote/current/consensus") is None


def test_without_tor_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tornet_node, "SYSTEM_FOLDERS", ())
    with pytest.raises(MissingTorError, match=r"^tor-gencert is not installed: install tor"):
        TorNetwork(tmp_path, [TorRelaySpec("slow")])
    assert MissingTorError.exit_status == 69


def test_programs_are_found_where_only_root_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tor"
    program.write_bytes(b"")
    program.chmod(0o755)
    monkeypatch.setattr(tornet_node, "SYSTEM_FOLDERS", (str(tmp_path),))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert find_program("tor") == str(program)


def test_a_folder_that_is_there_already_is_left_alone(tmp_path: Path) -> None:
    TorNode("slow", tmp_path, Address("127.0.0.1", 1))
    with pytest.raises(LocalError, match="cannot make a tor's folder: File exists"):
        TorNode("slow", tmp_path, Address("127.0.0.1", 1))


def test_a_tor_that_was_never_started_is_not_alive_and_may_be_stopped(tmp_path: Path) -> None:
    node = TorNode("slow", tmp_path, Address("127.0.0.1", 1))
    assert not node.alive
    assert node.returncode is None
    stop_nodes([node])


def test_waiting_ends_with_what_was_waited_for() -> None:
    answers = iter([None, None, "there"])
    assert wait_for("it", 5, lambda: next(answers), 0) == "there"
    with pytest.raises(LocalError, match=r"^it: not within 0 s$"):
        wait_for("it", 0, lambda: None)
