"""The Tor client is started again whenever it is lost, and commands are answered whether it runs or not."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from flashflow.model.errors import LocalError
from flashflow.shell import torkeeper
from flashflow.shell.parent import PARENT_VARIABLE
from flashflow.shell.tordriver import TorReply
from flashflow.shell.torkeeper import TorKeeper
from support.session_net import Told


class FakeDriver:
    """Stands in for TorDriver."""

    made: list["FakeDriver"] = []
    broken_starts = 0

    def __init__(
        self,
        *,
        on_event: Callable[..., None],
        on_lost: Callable[..., None],
        on_replaced: Callable[..., None],
        **options: object,
    ) -> None:
        self.on_event, self.on_lost, self.on_replaced = on_event, on_lost, on_replaced
        self.closed = False
        FakeDriver.made.append(self)

    async def start(self, argv: list[str], env: dict[str, str]) -> None:
        assert argv == ["tor-client", "--data-dir", "x"]
        assert PARENT_VARIABLE in env
        if FakeDriver.broken_starts:
            FakeDriver.broken_starts -= 1
            raise LocalError("it did not start")

    async def command(self, line: str, timeout_s: float) -> TorReply:
        return TorReply(True, "250", f"{line} took {timeout_s}")

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    FakeDriver.made, FakeDriver.broken_starts = [], 0
    monkeypatch.setattr(torkeeper, "TorDriver", FakeDriver)
    monkeypatch.setattr(torkeeper, "FIRST_DELAY_S", 0.001)
    return Told()


def keeper(told: Told) -> TorKeeper:
    return TorKeeper(
        ["tor-client", "--data-dir", "x"],
        Path("x/control"),
        on_event=told,
        on_up=lambda: told("up"),
        on_lost=lambda reason: told(f"lost: {reason}"),
    )


async def test_it_is_started_again_after_it_was_lost(told: Told) -> None:
    kept = keeper(told)
    assert await kept.command("A", 1.0) == (False, "the Tor client is not running")
    task = asyncio.create_task(kept.run())
    await told.wait(lambda: told.events == ["up"])
    assert await kept.command("A", 1.0) == (True, "A took 1.0")
    FakeDriver.made[0].on_event("an event")
    FakeDriver.made[0].on_lost("it ended")
    FakeDriver.made[0].on_lost("and its connection too")
    assert await kept.command("A", 1.0) == (False, "the Tor client is not running")
    await told.wait(lambda: told.events == ["up", "an event", "lost: it ended", "up"])
    assert FakeDriver.made[0].closed
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [driver.closed for driver in FakeDriver.made] == [True, True]


async def test_a_control_connection_that_is_replaced_is_lost_and_up_again(told: Told) -> None:
    kept = keeper(told)
    task = asyncio.create_task(kept.run())
    await told.wait(lambda: told.events == ["up"])
    FakeDriver.made[0].on_replaced("no answer")
    assert told.events == ["up", "lost: no answer", "up"]
    assert await kept.command("A", 1.0) == (True, "A took 1.0")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(FakeDriver.made) == 1


async def test_a_start_that_fails_is_tried_again_with_growing_delays(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    FakeDriver.broken_starts = 3
    task = asyncio.create_task(keeper(told).run())
    await told.wait(lambda: told.events == ["up"])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(FakeDriver.made) == 4
    assert [record.args[1] for record in caplog.records if record.args] == [0.001, 0.002, 0.004]
