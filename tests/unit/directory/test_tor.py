"""When relays are read out of tor: the keeper and the reading are played by hand, and no tor runs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from flashflow.directory import tor
from flashflow.directory.tor import TorDirectory, TorSettings, command, torrc
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address
from flashflow.model.network import Consensus, ConsensusHeader
from flashflow.shell.torcontrol import parse_place
from support.coordinator_world import relay

SETTINGS = TorSettings(None, "tor", Path("/var/lib/ff/directory"), ("SafeLogging 0", "Log info stdout"))


def test_torrc() -> None:
    lines = torrc(SETTINGS, 4711).splitlines()
    assert lines[:5] == [
        'DataDirectory "/var/lib/ff/directory"',
        'ControlPort "unix:\\"/var/lib/ff/directory/control\\""',
        'Log "notice file /var/lib/ff/directory/notice.log"',
        "CookieAuthentication 1",
        "__OwningControllerProcess 4711",
    ]
    assert {"SocksPort 0", "UseMicrodescriptors 0", "FetchUselessDescriptors 1"} < set(lines)
    assert lines[-2:] == ["SafeLogging 0", "Log info stdout"]


def test_the_systems_torrc_does_not_count() -> None:
    words = command(SETTINGS)
    assert words[words.index("-f") + 1] == "/var/lib/ff/directory/torrc"
    assert words[words.index("--defaults-torrc") + 1] == "/var/lib/ff/directory/no-defaults"
    assert words.index("tor") == 3


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("/run/tor/control", Path("/run/tor/control")),
        ("./control", Path("control")),
        ("127.0.0.1:9051", Address("127.0.0.1", 9051)),
        ("[::1]:9051", Address("::1", 9051)),
    ],
)
def test_places(text: str, place: object) -> None:
    assert parse_place(text) == place


class Keeper:
    """Stands for TorKeeper; a test calls what tor would."""

    made: "Keeper"

    def __init__(self, argv: list[str], control: object, **calls: Any) -> None:
        self.argv = argv
        self.calls = calls
        self.ended = False
        Keeper.made = self

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True

    def up(self) -> None:
        self.calls["on_up"]()

    def lost(self) -> None:
        self.calls["on_lost"]("gone")

    def news(self) -> None:
        self.calls["on_event"](self.calls["subscription"].convert("a stem event"))


class Scene:
    """A TorDirectory whose readings a test answers."""

    def __init__(self) -> None:
        self.answers: list[Consensus | LocalError] = []
        self.told: list[Any] = []
        self.reading = asyncio.Event()
        self.begun = 0

    async def read(self, place: object) -> Consensus:
        assert place == SETTINGS.data_dir / "control"
        self.begun += 1
        await self.reading.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, LocalError):
            raise answer
        return answer

    async def take(self, consensus: Consensus) -> None:
        self.told.append(consensus)


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    made = Scene()
    monkeypatch.setattr(tor, "TorKeeper", Keeper)
    monkeypatch.setattr(tor, "load_consensus_from_tor", made.read)
    monkeypatch.setattr(tor, "write_private", lambda path, content: None)
    monkeypatch.setattr(tor, "SETTLE_S", 0.0)
    monkeypatch.setattr(tor, "REST_FACTOR", 0.0)
    directory = TorDirectory(SETTINGS, on_consensus=made.take, on_failed=made.told.append)
    running = asyncio.create_task(directory.run())
    await settle()
    yield made
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert Keeper.made.ended


A, B = (Consensus(ConsensusHeader(), relays) for relays in ((relay(1),), (relay(1), relay(2))))


async def test_read_when_tor_is_up_and_again_at_news(scene: Scene) -> None:
    scene.reading.set()
    assert scene.begun == 0
    scene.answers += [A, B]
    Keeper.made.up()
    await settle()
    assert scene.told == [A]
    Keeper.made.news()
    await settle()
    assert scene.told == [A, B]


async def test_news_during_a_reading_cost_one_more(scene: Scene) -> None:
    scene.answers += [A, B]
    Keeper.made.up()
    await settle()
    for _ in range(100):
        Keeper.made.news()
    scene.reading.set()
    await settle()
    assert (scene.begun, scene.told) == (2, [A, B])


@pytest.mark.parametrize("event", [Keeper.news, Keeper.up])
async def test_a_failed_reading_is_told_and_the_next_one_counts(
    scene: Scene, event: Callable[[Keeper], None]
) -> None:
    scene.reading.set()
    scene.answers += [LocalError("no consensus yet"), A]
    Keeper.made.up()
    await settle()
    assert scene.told == ["no consensus yet"]
    event(Keeper.made)
    await settle()
    assert scene.told == ["no consensus yet", A]


async def test_a_failed_reading_is_tried_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tor, "RETRY_S", 0.0)
    scene.reading.set()
    scene.answers += [LocalError("no consensus yet"), A]
    Keeper.made.up()
    await settle()
    assert scene.told == ["no consensus yet", A]


async def test_the_loss_is_told_once_and_a_reading_that_it_broke_is_not(scene: Scene) -> None:
    scene.answers += [LocalError("connection closed"), A]
    Keeper.made.up()
    await settle()
    Keeper.made.lost()
    scene.reading.set()
    await settle()
    assert scene.told == ["gone"]
    Keeper.made.news()  # from a thread that had it in hand
    await settle()
    assert scene.begun == 1, "nothing to read from"
    Keeper.made.up()
    await settle()
    assert scene.told == ["gone", A]
