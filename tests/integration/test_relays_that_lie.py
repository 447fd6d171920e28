"""Relays of a fixed rate that lie in what they send, in when they send it, and in both: what it gains.

Real processes, measurements of 30 s, all relays at once. The truth is the rate that the relay's token bucket holds it to,
and what it counted itself on its sockets.
"""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest
from stem.descriptor.bandwidth_file import BandwidthFile

from flashflow.demo.deployment import Deployment, RunningRelay
from flashflow.demo.plan import BACKGROUND_RATIO, Plan
from flashflow.store.store import Store
from flashflow.testnet.counts import per_second_read_bytes
from support import cheating_relay
from support.records import success

# One deployment at a time: each measures what this machine can do.
pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("deployment"), pytest.mark.timeout(180)]

MBPS = 125_000
RATE_MBPS = 8.0
SECONDS = 30
BELIEVED = 1 / (1 - BACKGROUND_RATIO)
LEAST, MOST = 0.97, 1.03

LIES = (
    "background=1",
    "oversize",
    "burst",
    "burst=0.075",
    "store",
    "background",
    "burst+background",
    "burst=0.075+background",
    "store+background",
    "stall+background",
    "drip+background",
)


class Liars(Deployment):
    """A relay for each lie, of each of which something was known before: it needs a part of the team only."""

    def __init__(self, folder: Path) -> None:
        commands = {f"relay{n}": cheating_relay.command(lie) for n, lie in enumerate(LIES, start=1)}
        super().__init__(Plan((RATE_MBPS,) * len(LIES), SECONDS, 0, "127.0.0.1"), folder, commands=commands)

    def write_network(self) -> None:
        super().write_network()
        (self.folder / "coord" / "results").mkdir(exist_ok=True)
        with closing(Store.open(self.folder / "coord" / "results" / "results.sqlite")) as store:
            for meas_id, relay in enumerate(self.relays, 1):
                known = {"fingerprint": relay.fingerprint, "result_bytes": int(RATE_MBPS * MBPS)}
                store.save(success(meas_id, time.time() - 3600, **known))


def measure(running: Deployment, relay: RunningRelay) -> list[dict[str, Any]]:
    with running.ctrl() as client:
        client.request("measure", relay.fingerprint, "wait")
        return list(client.events())


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """What was told of each liar's measurement; `counted_bytes` of the last event is what it carried in a second."""
    with Liars(tmp_path_factory.mktemp("l")) as running, ThreadPoolExecutor(len(LIES)) as threads:
        running.start()
        told = dict(
            zip(LIES, threads.map(lambda relay: measure(running, relay), running.relays), strict=True)
        )
        for relay, lie in zip(running.relays, LIES, strict=True):
            done = told[lie][-1]
            if done["outcome"] == "ok":
                counted = per_second_read_bytes(relay.counts, done["active_utc_s"], SECONDS)
                done["counted_bytes"] = fmean(counted)
        yield told


@pytest.mark.parametrize("lie", LIES)
def test_no_relay_gains_more_than_its_claim(events: dict[str, list[dict[str, Any]]], lie: str) -> None:
    done = events[lie][-1]
    assert done["outcome"] == "ok", done
    gain = done["result_bytes"] / (RATE_MBPS * MBPS)
    share = done["counted_bytes"] / (RATE_MBPS * MBPS)
    print(f"{lie}: {gain:.3f} of its rate, of which it carried {share:.3f}")
    assert share <= 1.001, "its rate is what limits it"
    assert gain <= BELIEVED * MOST
    if "background" not in lie:
        assert gain <= MOST


def test_an_honest_relay_is_measured_right_and_so_is_one_whose_padding_is_huge(
    events: dict[str, list[dict[str, Any]]],
) -> None:
    for name in ("background=1", "oversize"):
        done = events[name][-1]
        gain = (done["result_bytes"] - done["background_bytes"]) / (RATE_MBPS * MBPS)
        assert LEAST <= gain <= MOST, name


def test_the_median_alone_would_have_been_too_much(events: dict[str, list[dict[str, Any]]]) -> None:
    """So it is not for want of a lie that a relay which holds back and bursts gained no more.

    Of two, the one that gained most by it: who holds back all that is outstanding, which is never quite the same, has
    nothing to carry for an instant and loses by it.
    """
    for lies, bound in (
        (("burst", "burst=0.075"), MOST),
        (("burst+background", "burst=0.075+background"), BELIEVED * MOST),
    ):
        medians = []
        for lie in lies:
            seconds = [event["total_bytes"] for event in events[lie] if event["event"] == "second"]
            assert len(seconds) == SECONDS
            medians.append(median(seconds))
            print(f"{lie}: the median is {medians[-1] / (RATE_MBPS * MBPS):.3f} of its rate")
        assert max(medians) > bound * RATE_MBPS * MBPS, medians


def test_they_do_what_they_are_called(events: dict[str, list[dict[str, Any]]]) -> None:
    def measured(lie: str) -> list[int]:
        return [event["measured_bytes"] for event in events[lie] if event["event"] == "second"]

    stalled, dripped = measured("stall+background"), measured("drip+background")
    assert stalled[-1] < 0.1 * RATE_MBPS * MBPS < min(stalled[:-1])
    assert 0 < max(dripped) < 0.1 * RATE_MBPS * MBPS


class Aborting(Deployment):
    """A relay that breaks off when its result would be low."""

    def __init__(self, folder: Path) -> None:
        command = cheating_relay.command(f"abort-low={RATE_MBPS}")
        super().__init__(Plan((RATE_MBPS,), 3, 0, "127.0.0.1"), folder, relay_command=command)

    def relay_options(self) -> dict[str, str]:
        return {**super().relay_options(), "--max-per-period": "10"}

    def published(self) -> dict[str, str]:
        """Its line in the v3bw file as it would be published now."""
        with self.ctrl() as client:
            file = BandwidthFile(Path(client.request("v3bw")["path"]).read_bytes(), validate=True)
        return file.measurements[self.relays[0].fingerprint]


def test_a_relay_that_aborts_whenever_it_looks_bad_loses_its_old_result(tmp_path: Path) -> None:
    with Aborting(tmp_path) as running:
        running.start()
        (relay,) = running.relays
        good = measure(running, relay)[-1]
        assert good["outcome"] == "ok"
        assert int(running.published()["ff_result"]) == good["result_bytes"]
        (tmp_path / relay.nickname / "rate_mbps").write_text(f"{RATE_MBPS / 2}")
        relay.child.signal(signal.SIGHUP)
        for failures in (1, 2, 3):
            assert int(running.published()["ff_result"]) == good["result_bytes"]
            done = measure(running, relay)[-1]
            assert (done["outcome"], done["failure"]["fault"]) == ("failed", "relay"), done
            assert running.published()["ff_relay_failures"] == str(failures)
        line = running.published()
        assert (line["bw"], line["unmeasured"], line["vote"]) == ("1", "1", "0")
