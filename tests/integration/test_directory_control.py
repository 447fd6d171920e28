"""Relays read from a control port that a test plays: what tor may answer, and what it should not."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from flashflow.directory import parse
from flashflow.directory.files import CONTROL_OPTION, load_consensus_from_tor
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address
from flashflow.shell.torcontrol import ControlPlace
from flashflow.testnet.ports import free_ports
from support.directory_files import consensus_of, descriptor_of, entry_of, fingerprint_of

CONSENSUS = "dir/status-vote/current/consensus"
DESCRIPTORS = "desc/all-recent"
OPEN = "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250 OK\r\n"
PASSWORD = "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=HASHEDPASSWORD\r\n250 OK\r\n"


def data(key: str, text: str) -> str:
    """A GETINFO reply with lines."""
    lines = "".join(f"{'.' if line.startswith('.') else ''}{line}\r\n" for line in text.splitlines())
    return f"250+{key}=\r\n{lines}.\r\n250 OK\r\n"


@asynccontextmanager
async def control_port(place: ControlPlace, answers: Mapping[str, str]) -> AsyncIterator[list[str]]:
    """Answers each command by the first key that it holds, `250 OK` by default; gives the commands."""
    commands: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            commands.append(line.decode().strip())
            found = [answer for key, answer in answers.items() if key in commands[-1]]
            writer.write((found or ["250 OK\r\n"])[0].encode())
            if found == [""]:
                break
        writer.close()

    if isinstance(place, Path):
        server = await asyncio.start_unix_server(serve, place)
    else:
        server = await asyncio.start_server(serve, place.host, place.port)
    async with server:
        yield commands


PLACES: list[Callable[[Path], ControlPlace]] = [
    lambda folder: folder / "control",
    lambda folder: Address("127.0.0.1", free_ports("127.0.0.1", 1)[0]),
    lambda folder: Address("::1", free_ports("::1", 1)[0]),
]


@pytest.mark.parametrize("place_in", PLACES)
async def test_relays_with_and_without_descriptors(
    tmp_path: Path, place_in: Callable[[Path], ControlPlace]
) -> None:
    place = place_in(tmp_path)
    consensus = data(CONSENSUS, consensus_of(entry_of(1), entry_of(2)))
    texts = {"PROTOCOLINFO": OPEN, CONSENSUS: consensus, DESCRIPTORS: data(DESCRIPTORS, descriptor_of(2))}
    async with control_port(place, texts) as commands:
        loaded = await load_consensus_from_tor(place)
    relays = {relay.fingerprint: relay.measurable for relay in loaded.relays}
    assert relays == {fingerprint_of(1): False, fingerprint_of(2): True}
    asked = [command for command in commands if command.startswith(("GETINFO dir", "GETINFO desc"))]
    assert asked == [f"GETINFO {CONSENSUS}", f"GETINFO {DESCRIPTORS}"]


@pytest.mark.parametrize(
    "descriptors", ["551 none\r\n", f"250-{DESCRIPTORS}=\r\n250 OK\r\n", data(DESCRIPTORS, "@type x\n")]
)
async def test_no_descriptors_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], descriptors: str
) -> None:
    place = tmp_path / "control"
    texts = {CONSENSUS: data(CONSENSUS, consensus_of(entry_of(1))), DESCRIPTORS: descriptors}
    async with control_port(place, {"PROTOCOLINFO": OPEN, **texts}):
        assert await asyncio.to_thread(parse.main, [CONTROL_OPTION, str(place)]) == 0
    warnings, relay = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert warnings["warnings"] == []
    assert (relay["fingerprint"], relay["ntor_key"]) == (fingerprint_of(1), None)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (
            {CONSENSUS: "551 nothing\r\n"},
            "tor at {}: has no consensus yet, or UseMicrodescriptors 1: nothing",
        ),
        ({CONSENSUS: f"250-{CONSENSUS}=\r\n250 OK\r\n"}, "tor at {}: has no consensus yet"),
        ({CONSENSUS: "250 nonsense\r\n"}, "tor at {}: gives no consensus: "),
        ({CONSENSUS: "nonsense\r\n"}, "tor at {}: gives no consensus: "),
        ({CONSENSUS: ""}, "tor at {}: gives no consensus: "),
        (
            {CONSENSUS: data(CONSENSUS, "hello")},
            CONSENSUS + " of {}: not a consensus: expected it to begin with",
        ),
        (
            {CONSENSUS: data(CONSENSUS, "network-status-version 3 microdesc\n")},
            "is a microdescriptor consensus",
        ),
        ({CONSENSUS: data(CONSENSUS, "network-status-version 3\n")}, "damaged: the consensus is cut off"),
        ({DESCRIPTORS: ""}, "tor at {}: gives no descriptors: "),
        ({"PROTOCOLINFO": PASSWORD}, "tor at {}: authentication failed: "),
        ({"PROTOCOLINFO": ""}, "tor at {}: authentication failed: "),
        ({"AUTHENTICATE": "515 no\r\n"}, "tor at {}: authentication failed: "),
    ],
)
async def test_a_refusal_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answers: dict[str, str], reason: str
) -> None:
    place = tmp_path / "control"
    texts = {CONSENSUS: data(CONSENSUS, consensus_of(entry_of(1))), DESCRIPTORS: data(DESCRIPTORS, "")}
    usual = {"PROTOCOLINFO": OPEN, **texts}
    async with control_port(place, {**usual, **answers}):
        status = await asyncio.to_thread(parse.main, [CONTROL_OPTION, str(place)])
    shown = capsys.readouterr()
    assert (status, shown.out) == (1, "")
    assert shown.err.startswith("error: ")
    assert reason.format(place) in shown.err
    assert shown.err.count("\n") == 1


async def test_nothing_listens(tmp_path: Path) -> None:
    with pytest.raises(LocalError) as caught:
        await load_consensus_from_tor(tmp_path / "control")
    assert caught.value.reason == f"tor at {tmp_path}/control: [Errno 2] No such file or directory"
