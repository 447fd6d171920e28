"""Measurements of real processes that show more than the demo's own figures."""

import signal
from pathlib import Path
from typing import Any

import pytest

from flashflow.demo.deployment import Deployment, RunningRelay
from flashflow.testnet.counts import median_read_mbps
from support.stack import deployment


def measure(running: Deployment, relay: RunningRelay) -> dict[str, Any]:
    """Measure a relay through the control socket; the result object of a success."""
    with running.ctrl() as client:
        client.request("measure", relay.fingerprint, "wait")
        *_, done = client.events()
    assert done["outcome"] == "ok", done
    return done


def test_halving_the_relays_limit_behind_our_back_halves_the_result(tmp_path: Path) -> None:
    with deployment(tmp_path, rates_mbps=[24], duration_s=4) as running:
        (relay,) = running.relays
        before = measure(running, relay)
        (tmp_path / relay.nickname / "rate_mbps").write_text("12")
        relay.child.signal(signal.SIGHUP)
        after = measure(running, relay)
        for result in (before, after):
            counted = median_read_mbps(relay.counts, result["active_utc_s"], result["duration_s"])
            assert result["result_bytes"] / 125_000 == pytest.approx(counted, rel=0.03)
    assert after["result_bytes"] / before["result_bytes"] == pytest.approx(0.5, rel=0.04)


@pytest.mark.parametrize("offered_percent", [40])
def test_background_above_what_is_believed_is_capped(tmp_path: Path, offered_percent: int) -> None:
    with deployment(tmp_path, [20], 4, background_percent=offered_percent) as running:
        (relay,) = running.relays
        with running.background(relay, relay.rate_mbps * offered_percent / 100, 60):
            result = measure(running, relay)
    assert result["background_bytes"] <= result["result_bytes"] * 0.25 * 1.001
    assert result["background_bytes"] >= result["result_bytes"] * 0.20
