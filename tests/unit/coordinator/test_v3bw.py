"""The bandwidth file: golden text, the generator's MUSTs, and stem as the independent reader."""

from dataclasses import replace

import pytest
from stem.descriptor.bandwidth_file import BandwidthFile

from coordinator.core.v3bw import build_v3bw
from flashflow.model.ids import Address, Fingerprint
from flashflow.model.relay import RelayInfo
from flashflow.model.results import Standing
from flashflow.store.latest import LatestResult

A, B, C = (Fingerprint(letter * 40) for letter in "ABC")
NOW_UTC_S = 1_700_000_000.0
WEEK_S = 604_800.0

RESULT = LatestResult(A, "relayA", "echo", NOW_UTC_S - 100.5, 12_345_678, 2_000, True, 20_000_000)
RELAY = RelayInfo(
    fingerprint=A,
    nickname="relayA",
    address=Address("127.0.0.1", 9001),
    ed25519=bytes(32),
    ntor_key=bytes(32),
    bandwidth_avg_bytes=50_000_000,
    bandwidth_burst_bytes=60_000_000,
    bandwidth_observed_bytes=1_000,
    consensus_weight_kb=20,
    unmeasured=True,
)


def build(*results: LatestResult, relays: tuple[RelayInfo, ...] = (), **changes: object) -> str | None:
    options: dict[str, object] = {
        "now_utc_s": NOW_UTC_S,
        "started_utc_s": NOW_UTC_S - 1000,
        "software_version": "0.1.0",
        "max_age_s": WEEK_S,
    }
    by_fingerprint = {relay.fingerprint: relay for relay in relays}
    return build_v3bw(results, by_fingerprint, **{**options, **changes})  # type: ignore[arg-type]


def rows(text: str | None) -> list[dict[str, str]]:
    """Keys and values of the relay lines."""
    assert text is not None
    lines = text.split("=====\n")[1].splitlines()
    return [dict(pair.split("=", 1) for pair in line.split(" ")) for line in lines]


def row(text: str | None) -> dict[str, str]:
    (only,) = rows(text)
    return only


def stem_reads(text: str | None) -> BandwidthFile:
    assert text is not None
    assert text.count("\n=====\n") == 1, "without a terminator stem would read for ever"
    return BandwidthFile(text.encode(), validate=True)


def test_golden_file() -> None:
    bound = LatestResult(B, "relayB", "echo", NOW_UTC_S - 3_600, 999, 0, False, None)
    assert build(bound, RESULT, relays=(RELAY,), failures={B: 2, C: 1}) == (
        "1699999899\n"
        "version=1.9.0\n"
        "software=flashflow\n"
        "software_version=0.1.0\n"
        "file_created=2023-11-14T22:13:20\n"
        "generator_started=2023-11-14T21:56:40\n"
        "earliest_bandwidth=2023-11-14T21:13:20\n"
        "latest_bandwidth=2023-11-14T22:11:39\n"
        "number_eligible_relays=2\n"
        "recent_measurement_failure_count=3\n"
        "number_consensus_relays=1\n"
        "percent_eligible_relays=100\n"
        "=====\n"
        "node_id=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA bw=12345 nick=relayA time=2023-11-14T22:11:39 ff_mode=echo "
        "ff_result=12345678 ff_background=2000 master_key_ed25519=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA "
        "desc_bw_avg=50000000 desc_bw_bur=60000000 desc_bw_obs_last=1000 consensus_bandwidth=20000 "
        "consensus_bandwidth_is_unmeasured=True\n"
        "node_id=$BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB bw=1 nick=relayB time=2023-11-14T21:13:20 ff_mode=echo "
        "ff_result=999 ff_background=0 ff_lower_bound=1 relay_recent_measurement_failure_count=2\n"
    )


def test_stem_reads_it() -> None:
    found = stem_reads(build(RESULT, replace(RESULT, fingerprint=B), relays=(RELAY,), failures={A: 4}))
    assert found.version == "1.9.0"
    assert found.software == "flashflow"
    assert found.timestamp.isoformat() == found.latest_bandwidth.isoformat() == "2023-11-14T22:11:39"
    assert found.created_at.isoformat() == "2023-11-14T22:13:20"
    assert found.generated_at.isoformat() == "2023-11-14T21:56:40"
    assert (found.consensus_size, found.eligible_count) == (1, 2)
    assert found.measurements[A]["bw"] == "12345"
    assert found.measurements[A]["ff_result"] == "12345678"
    assert set(found.measurements) == {A, B}


def test_no_file_without_a_recent_result() -> None:
    assert build() is None
    assert build(replace(RESULT, ended_utc_s=NOW_UTC_S - WEEK_S - 0.5), relays=(RELAY,)) is None


def test_only_recent_results_are_used() -> None:
    old = replace(RESULT, fingerprint=B, ended_utc_s=NOW_UTC_S - WEEK_S - 0.5)
    edge = replace(RESULT, fingerprint=C, ended_utc_s=NOW_UTC_S - WEEK_S)
    text = build(RESULT, old, edge)
    assert [line["node_id"] for line in rows(text)] == [f"${A}", f"${C}"]


def test_the_first_line_is_the_newest_results_time_not_the_clocks() -> None:
    text = build(RESULT, replace(RESULT, fingerprint=B, ended_utc_s=NOW_UTC_S - 7.9))
    assert text is not None
    assert text.splitlines()[0] == "1699999992"
    assert "latest_bandwidth=2023-11-14T22:13:12\n" in text


def test_a_result_from_the_future_counts_as_from_now() -> None:
    """Measured while the clock was ahead; tor would read no later file until that time has come."""
    text = build(replace(RESULT, ended_utc_s=NOW_UTC_S + 86_400))
    assert text is not None
    assert text.splitlines()[0] == "1700000000"
    assert row(text)["time"] == "2023-11-14T22:13:20"


@pytest.mark.parametrize(
    ("result", "now_avg", "then_avg", "bw"),
    [
        (12_345_678, 50_000_000, None, 12_345),
        (12_345_678, 5_000_999, None, 5_000),
        (12_345_678, 5_000_000, 1_000_000, 5_000),
        (12_345_678, None, 1_000_000, 1_000),
        (12_345_678, None, None, 12_345),
        (999, 50_000_000, None, 1),
        (0, 50_000_000, None, 1),
        (12_345_678, 0, None, 1),
        (1_000, 50_000_000, None, 1),
        (1_999, 50_000_000, None, 1),
        (2_000, 50_000_000, None, 2),
    ],
)
def test_bandwidth(result: int, now_avg: int | None, then_avg: int | None, bw: int) -> None:
    """Never above the descriptor's bandwidth-avg, the present one if it is known; never 0; not capped by observed."""
    measured = replace(RESULT, result_bytes=result, bandwidth_avg_bytes=then_avg)
    line = row(build(measured, relays=(replace(RELAY, bandwidth_avg_bytes=now_avg),)))
    assert line["bw"] == str(bw)
    assert line["ff_result"] == str(result)


def test_a_relay_that_left_the_consensus_keeps_its_limit() -> None:
    assert row(build(replace(RESULT, bandwidth_avg_bytes=3_000_000)))["bw"] == "3000"


def test_a_lower_bound_is_marked_and_never_beats_an_accepted_result() -> None:
    bound = replace(RESULT, accepted=False, result_bytes=99_000_000, ended_utc_s=NOW_UTC_S - 1)
    assert row(build(bound))["ff_lower_bound"] == "1"
    for results in ((bound, RESULT), (RESULT, bound)):
        line = row(build(*results))
        assert line["ff_result"] == "12345678"
        assert "ff_lower_bound" not in line


def test_of_two_accepted_results_the_newest_counts() -> None:
    newer = replace(RESULT, result_bytes=5_000, ended_utc_s=NOW_UTC_S - 1)
    for results in ((newer, RESULT), (RESULT, newer)):
        assert row(build(*results))["bw"] == "5"


def test_rows_are_sorted_by_fingerprint() -> None:
    results = [replace(RESULT, fingerprint=fingerprint) for fingerprint in (C, A, B)]
    assert [line["node_id"] for line in rows(build(*results))] == [f"${A}", f"${B}", f"${C}"]


def test_the_present_nickname_is_shown() -> None:
    assert row(build(RESULT, relays=(replace(RELAY, nickname="renamed"),)))["nick"] == "renamed"


@pytest.mark.parametrize("nickname", ["", "a b", "x bw=9", "a" * 20, "é", "a\nb"])
def test_what_is_no_nickname_is_left_out(nickname: str) -> None:
    line = row(build(replace(RESULT, nickname=nickname)))
    assert "nick" not in line
    assert line["bw"] == "12345"


@pytest.mark.parametrize(("version", "shown"), [("1.0 dirty\n", "1.0_dirty_"), ("", "unknown")])
def test_the_version_cannot_break_the_header(version: str, shown: str) -> None:
    text = build(RESULT, software_version=version)
    assert f"\nsoftware_version={shown}\n" in str(text)
    assert stem_reads(text).software_version == shown


def test_unknown_things_are_left_out() -> None:
    bare = replace(
        RELAY,
        ed25519=None,
        ntor_key=None,
        bandwidth_avg_bytes=None,
        bandwidth_burst_bytes=None,
        bandwidth_observed_bytes=None,
        consensus_weight_kb=None,
        unmeasured=False,
    )
    keys = ["node_id", "bw", "nick", "time", "ff_mode", "ff_result", "ff_background"]
    assert list(row(build(RESULT, relays=(bare,)))) == [*keys, "consensus_bandwidth_is_unmeasured"]


def standing(fingerprint: Fingerprint = A, **changes: object) -> Standing:
    fields = {"relay_failures": 1, "forgeries": 1, **changes}
    return Standing(fingerprint, "relayA", "echo", NOW_UTC_S - 50.0, **fields)  # type: ignore[arg-type]


def test_a_relay_that_forged_is_one_that_nobody_has_measured() -> None:
    other = replace(RESULT, fingerprint=B)
    text = build(RESULT, other, relays=(RELAY,), standings={A: standing()}, failures={A: 1})
    excluded, normal = rows(text)
    assert excluded == {
        "node_id": f"${A}",
        "bw": "1",
        "nick": "relayA",
        "time": "2023-11-14T22:12:30",
        "unmeasured": "1",
        "vote": "0",
        "ff_mode": "echo",
        "relay_recent_measurement_failure_count": "1",
        "ff_relay_failures": "1",
        "ff_forgeries": "1",
    }
    assert normal["bw"] == "12345"
    assert "number_eligible_relays=1\n" in str(text)
    assert len(stem_reads(text).measurements) == 2


def test_without_the_standing_its_old_result_would_be_published() -> None:
    assert row(build(RESULT))["bw"] == "12345"
    two = standing(relay_failures=2, forgeries=0)
    assert row(build(RESULT, standings={A: two}))["bw"] == "12345"
    assert row(build(RESULT, standings={A: two}))["ff_relay_failures"] == "2"
    three = standing(relay_failures=3, forgeries=0)
    assert row(build(RESULT, standings={A: three}))["vote"] == "0"


def test_an_exclusion_alone_takes_the_place_of_an_older_file() -> None:
    text = build(standings={A: standing()})
    assert row(text)["vote"] == "0"
    assert str(text).startswith(f"{int(NOW_UTC_S - 50)}\n")
    long_ago = replace(standing(), ended_utc_s=NOW_UTC_S - 2 * WEEK_S)
    assert build(standings={A: long_ago}) is None
    assert row(build(standings={A: long_ago}, relays=(RELAY,)))["vote"] == "0"
