"""Measurements of real processes that show more than the demo's own figures: relays that change, and that cheat."""

import signal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from flashflow.demo.deployment import Deployment, RunningRelay
from flashflow.demo.plan import BACKGROUND_RATIO
from flashflow.testnet.counts import median_read_mbps
from support import cheating_relay
from support.stack import deployment

# One deployment at a time: each measures what this machine can do.
pytestmark = pytest.mark.xdist_group("deployment")

BELIEVED = Fraction(str(BACKGROUND_RATIO)) / (1 - Fraction(str(BACKGROUND_RATIO)))
"""r / (1 - r), exactly."""


def measure(running: Deployment, relay: RunningRelay) -> list[dict[str, Any]]:
    """Measure a relay through the control socket; all events, `done` last."""
    with running.ctrl() as client:
        client.request("measure", relay.fingerprint, "wait")
        return list(client.events())


def succeed(running: Deployment, relay: RunningRelay) -> dict[str, Any]:
    """Measure a relay; the result object, which is a success."""
    done = measure(running, relay)[-1]
    assert done["outcome"] == "ok", done
    return done


def test_results_follow_the_relay_and_background_is_capped(tmp_path: Path) -> None:
    """A limit halved behind FlashFlow's back halves the result; of 40 % background 25 % are let through."""
    with deployment(tmp_path, [24, 20], 4, background_percent=40) as running:
        changing, busy = running.relays
        before = succeed(running, changing)
        (tmp_path / changing.nickname / "rate_mbps").write_text("12")
        changing.child.signal(signal.SIGHUP)
        after = succeed(running, changing)
        for result in (before, after):
            counted = median_read_mbps(changing.counts, result["active_utc_s"], result["duration_s"])
            assert result["result_bytes"] / 125_000 == pytest.approx(counted, rel=0.03)
        assert after["result_bytes"] / before["result_bytes"] == pytest.approx(0.5, rel=0.04)

        with running.background(busy, busy.rate_mbps * 0.4, 60):
            result = succeed(running, busy)
        assert 0.20 <= result["background_bytes"] / result["result_bytes"] <= 0.25


FAILING_CHEATS = {
    "skip-decrypt": "peer",
    "replay": "peer",
    "echo-early": "peer",
    "invent": "peer",
    "bad-certs": "peer",
    "expired": "peer",
    "changing": "peer",
    "malformed": "peer",
    "hasty": "peer",
    "refuse": "peer",
    "silent": "peer",
}
"""Cheat -> kind of failure."""


def test_cheats_are_caught_and_claims_of_background_gain_what_the_clamp_gives(tmp_path: Path) -> None:
    cheats = [*FAILING_CHEATS, "background=10"]
    commands = {f"relay{n}": cheating_relay.command(cheat) for n, cheat in enumerate(cheats, start=1)}
    with deployment(tmp_path, [10] * len(cheats), 2, commands=commands) as running:
        for relay, (cheat, kind) in zip(running.relays, FAILING_CHEATS.items(), strict=False):
            done = measure(running, relay)[-1]
            assert (cheat, done["outcome"]) == (cheat, "failed")
            assert (cheat, done["failure"]["kind"]) == (cheat, kind), done

        seconds = [event for event in measure(running, running.relays[-1]) if event["event"] == "second"]
        assert len(seconds) == 2
        for second in seconds:
            assert second["measured_bytes"] > 0
            assert second["background_bytes"] == int(second["measured_bytes"] * BELIEVED)
            assert second["total_bytes"] == second["measured_bytes"] + second["background_bytes"]
