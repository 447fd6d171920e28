"""Whole deployments in loop mode: relays and far ends that change, drop or invent cells make the measurement fail."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flashflow.demo.child import Child
from flashflow.demo.deployment import Deployment
from flashflow.demo.plan import Plan
from support import cheating_far_end, middle_relay

pytestmark = pytest.mark.faults  # liars; they need no tor, but half a minute

CHEATS = ("honest", "change", "drop", "invent")
WRONG = "the relay sent back a cell that is not what it had to make of the one it was sent"
INVENTED = "the relay sent back more cells than it was sent"
REASONS = {"change": WRONG, "drop": WRONG, "invent": INVENTED}


class LoopStack(Deployment):
    """A relay for each cheat, measured in loop mode; the measurers' far ends cheat as the file `cheat` says."""

    mode = "loop"

    def __init__(self, folder: Path) -> None:
        commands = {f"relay{n}": middle_relay.command(cheat) for n, cheat in enumerate(CHEATS, start=1)}
        super().__init__(Plan((10.0,) * len(CHEATS), 1, 0, "127.0.0.1"), folder, commands=commands)

    def start_child(self, name: str, argv: Sequence[str]) -> Child:
        """A measurer is started with cheating far ends."""
        if name.startswith("measurer"):
            argv = cheating_far_end.command(*argv[3:])  # behind `python -m flashflow.cli`
        return super().start_child(name, argv)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopStack]:
    folder = tmp_path_factory.mktemp("loop")
    with pytest.MonkeyPatch.context() as patch, LoopStack(folder) as stack:
        patch.setenv(cheating_far_end.CHEAT_FILE, str(folder / "cheat"))
        stack.start()
        yield stack


def measure(running: LoopStack, cheat: str) -> dict[str, Any]:
    """Measure the relay of that name: the last event."""
    relay = running.relays[CHEATS.index(cheat)]
    with running.ctrl() as client:
        client.request("measure", relay.fingerprint, "wait")
        return list(client.events())[-1]


def test_an_honest_relay_is_measured(running: LoopStack) -> None:
    done = measure(running, "honest")
    assert done["outcome"] == "ok", done
    assert done["result_bytes"] > 0


@pytest.mark.parametrize("cheat", REASONS)
def test_a_relay_that_cheats_is_caught(running: LoopStack, cheat: str) -> None:
    done = measure(running, cheat)
    assert done["outcome"] == "failed"
    assert done["failure"]["kind"] == "peer", done["failure"]["reason"]
    assert REASONS[cheat] in done["failure"]["reason"], done


@pytest.mark.parametrize("cheat", REASONS)
def test_a_far_end_that_cheats_is_caught(running: LoopStack, cheat: str) -> None:
    """Whoever gets the cells back cannot tell it from the relay, which is blamed: kind peer."""
    path = running.folder / "cheat"
    path.write_text(cheat)
    try:
        done = measure(running, "honest")
    finally:
        path.unlink()
    assert done["outcome"] == "failed"
    assert done["failure"]["kind"] == "peer", done["failure"]["reason"]
    assert REASONS[cheat] in done["failure"]["reason"], done
