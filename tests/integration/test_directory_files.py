"""Relays read in a process of its own."""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flashflow.directory import files
from flashflow.directory.files import load_relays, relay_from_json, relay_to_json
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address
from support.directory_files import EXCERPT, consensus_of, descriptor_of, entry_of, relay_keys


async def test_relays_with_keys(tmp_path: Path) -> None:
    consensus, descriptors = tmp_path / "consensus", tmp_path / "descriptors"
    consensus.write_text(consensus_of(entry_of(1), entry_of(2, "0.0.0.0", "a [::1]:9443\n")))
    descriptors.write_text(descriptor_of(1) + descriptor_of(2))
    relays = {relay.nickname: relay for relay in await load_relays(consensus, descriptors)}
    assert relays["test1"].address == Address("127.0.0.1", 9001)
    assert relays["test2"].address == Address("::1", 9443)
    for number in (1, 2):
        relay = relays[f"test{number}"]
        assert relay.ntor_key == relay_keys(number).ntor_public
        assert relay.measurable
        more = {"more_addresses": (Address("::1", 443),), "family_keys": (b"k" * 32,)}
        full = replace(relay, family=(relay.fingerprint,), **more)
        for one in (relay, full):
            assert relay_from_json(json.loads(json.dumps(relay_to_json(one)))) == one


async def test_the_real_networks_relays_without_descriptors(tmp_path: Path) -> None:
    relays = await load_relays(EXCERPT, None)
    assert len(relays) == 11
    assert not any(relay.measurable for relay in relays)


async def test_warnings_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    consensus = tmp_path / "consensus"
    consensus.write_text(consensus_of(entry_of(1), "r half an entry\n"))
    with caplog.at_level(logging.WARNING):
        assert len(await load_relays(consensus, None)) == 1
    assert caplog.messages == [f"{consensus}: 1 router entries cannot be read and are left out"]


async def test_the_reason_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(LocalError) as caught:
        await load_relays(tmp_path / "none", None)
    assert caught.value.reason == f"{tmp_path}/none: cannot be read: No such file or directory"


async def test_a_process_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho Killed >&2\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(LocalError, match="the process that reads it ended with status 9: Killed"):
        await load_relays(EXCERPT, None)


async def test_a_process_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(files, "PARSE_TIMEOUT_S", 0.0)
    with pytest.raises(LocalError, match="not read within 0 s"):
        await load_relays(EXCERPT, None)


async def test_a_flood_of_output_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_OUTPUT_BYTES", 100)
    with pytest.raises(LocalError, match="more relays than any Tor network has"):
        await load_relays(EXCERPT, None)
