"""Measurements of real processes that show more than the demo's own figures: relays that change, and that cheat."""

import signal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from stem.descriptor.bandwidth_file import BandwidthFile

from flashflow.demo.deployment import Deployment, RunningRelay
from flashflow.demo.plan import BACKGROUND_RATIO, MEASURERS
from flashflow.testnet.counts import median_read_mbps
from support import cheating_relay
from support.stack import deployment
from support.waiting import wait_for

# One deployment at a time: each measures what this machine can do.
pytestmark = pytest.mark.xdist_group("deployment")

BELIEVED = Fraction(str(BACKGROUND_RATIO)) / (1 - Fraction(str(BACKGROUND_RATIO)))
"""r / (1 - r), exactly."""
LOSSES = ("pending", "waits_s", "resent", "not_delivered", "repeated", "denied")
SESSION_KEYS = {"phase", "connections", "delivered", "received", *LOSSES}
"""docs/protocol.md, Control socket."""


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


def published(running: Deployment) -> dict[str, dict[str, str]]:
    """The lines of the v3bw file as it would be published now, by fingerprint."""
    with running.ctrl() as client:
        file = BandwidthFile(Path(client.request("v3bw")["path"]).read_bytes(), validate=True)
    return file.measurements


def check_sessions(running: Deployment) -> None:
    """Each measurer's session has the figures of docs/protocol.md, those of one that lost nothing."""

    def sessions() -> list[dict[str, Any]]:
        with running.ctrl() as client:
            return [row["session"] for row in client.request("measurers")["measurers"]]

    wait_for(lambda: not any(session["pending"] for session in sessions()), "all is acknowledged", 10)
    assert len(sessions()) == len(MEASURERS)
    for session in sessions():
        assert set(session) == SESSION_KEYS
        assert session["phase"] == "open"
        assert session["connections"] == 1
        assert session["delivered"] >= 2, "an order and Go of the first measurement, which takes all"
        assert session["received"] >= 1 + 4, "that it is ready, and a report a second"
        assert [session[key] for key in LOSSES] == [0] * len(LOSSES)


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

        check_sessions(running)
        with running.background(busy, busy.rate_mbps * 0.4, 60):
            result = succeed(running, busy)
        assert 0.20 <= result["background_bytes"] / result["result_bytes"] <= 0.25


WRONG = "ECHO_FORGED: the relay sent back a cell that is not what it had to make of the one it was sent"
OTHER_IDENTITY = "the relay does not prove the expected identity"
BROKEN_PROTOCOL = "the relay broke the measurement protocol"

FAILING_CHEATS = {
    "skip-decrypt": (True, WRONG),
    "replay": (True, WRONG),
    "invent": (True, "ECHO_FORGED: the relay sent back"),
    "drop": (True, WRONG),
    "echo-early": (True, "circuits could be built: the relay sent back more cells than it was sent"),
    "bad-certs": (False, OTHER_IDENTITY),
    "expired": (False, OTHER_IDENTITY),
    "changing": (False, f"circuits could be built: {OTHER_IDENTITY}"),
    "malformed": (False, BROKEN_PROTOCOL),
    "hasty": (False, BROKEN_PROTOCOL),
    "refuse": (False, "the relay refused: the relay admits no more measurements in this period"),
    "silent": (False, "the relay does not answer MEAS_PARAMS"),
}
"""Cheat -> whether it counts as a proven forgery, and a part of the reason."""


def test_cheats_are_caught_and_claims_of_background_gain_what_the_clamp_gives(tmp_path: Path) -> None:
    cheats = [*FAILING_CHEATS, "recognised", "background=10"]
    commands = {f"relay{n}": cheating_relay.command(cheat) for n, cheat in enumerate(cheats, start=1)}
    with deployment(tmp_path, [10] * len(cheats), 2, commands=commands) as running:
        relays = dict(zip(cheats, running.relays, strict=True))
        for cheat, (forged, reason) in FAILING_CHEATS.items():
            done = measure(running, relays[cheat])[-1]
            assert (cheat, done["outcome"]) == (cheat, "failed")
            failure = done["failure"]
            assert (cheat, failure["kind"], failure["fault"]) == (cheat, "peer", "relay"), done
            assert (cheat, failure["forged"]) == (cheat, forged), done
            assert reason in failure["reason"], (cheat, done)

        nothing = succeed(running, relays["recognised"])
        assert (nothing["result_bytes"], nothing["background_bytes"]) == (0, 0)

        lines = published(running)
        forger = lines[relays["skip-decrypt"].fingerprint]
        assert (forger["bw"], forger["unmeasured"], forger["vote"]) == ("1", "1", "0")
        assert forger["ff_forgeries"] == "1"
        useless = lines[relays["recognised"].fingerprint]
        assert (useless["bw"], useless["ff_result"], useless.get("unmeasured")) == ("1", "0", None)

        seconds = [event for event in measure(running, relays["background=10"]) if event["event"] == "second"]
        assert len(seconds) == 2
        for second in seconds:
            assert second["measured_bytes"] > 0
            assert second["background_bytes"] == int(second["measured_bytes"] * BELIEVED)
            assert second["total_bytes"] == second["measured_bytes"] + second["background_bytes"]
