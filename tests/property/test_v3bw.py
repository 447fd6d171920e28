"""The bandwidth file as tor reads it, for any results: rules of bwauth.c and bandwidth-file-spec."""

import re

from hypothesis import given
from hypothesis import strategies as st
from stem.descriptor.bandwidth_file import BandwidthFile

from coordinator.core.v3bw import build_v3bw
from flashflow.model.ids import Address, Fingerprint
from flashflow.model.relay import RelayInfo
from flashflow.store.latest import LatestResult

NOW_UTC_S = 1_700_000_000.0
MAX_AGE_S = 1_000_000.0
COUNTS = st.integers(0, 2**63 - 1)
UNKNOWN_OR = st.none() | COUNTS
FINGERPRINTS = st.sampled_from([Fingerprint(digit * 40) for digit in "0123456789ABCDEF"])
KEY_VALUE = re.compile(r"[a-z0-9_]+=[!-~]+")

RESULTS = st.builds(
    LatestResult,
    fingerprint=FINGERPRINTS,
    nickname=st.text(max_size=25),
    mode=st.sampled_from(["echo", "loop"]),
    ended_utc_s=st.floats(NOW_UTC_S - 2 * MAX_AGE_S, NOW_UTC_S + MAX_AGE_S),
    result_bytes=COUNTS,
    background_bytes=COUNTS,
    accepted=st.booleans(),
    bandwidth_avg_bytes=UNKNOWN_OR,
)
RELAYS = st.builds(
    RelayInfo,
    fingerprint=FINGERPRINTS,
    nickname=st.text(max_size=25),
    address=st.just(Address("127.0.0.1", 1)),
    ed25519=st.none() | st.binary(min_size=32, max_size=32),
    ntor_key=st.none(),
    bandwidth_avg_bytes=UNKNOWN_OR,
    bandwidth_burst_bytes=UNKNOWN_OR,
    bandwidth_observed_bytes=UNKNOWN_OR,
    consensus_weight_kb=UNKNOWN_OR,
    unmeasured=st.booleans(),
)


@given(
    st.lists(RESULTS, max_size=20),
    st.lists(RELAYS, max_size=20),
    st.dictionaries(FINGERPRINTS, st.integers(0, 10**9)),
    st.text(max_size=200),
)
def test_any_results_make_a_file_that_tor_and_stem_read(
    results: list[LatestResult], relays: list[RelayInfo], failures: dict[Fingerprint, int], version: str
) -> None:
    known = {relay.fingerprint: relay for relay in relays}
    text = build_v3bw(
        results,
        known,
        now_utc_s=NOW_UTC_S,
        started_utc_s=0.0,
        software_version=version,
        max_age_s=MAX_AGE_S,
        failures=failures,
    )
    recent = [result for result in results if result.ended_utc_s >= NOW_UTC_S - MAX_AGE_S]
    if text is None:
        assert recent == []
        return
    header, lines = _as_tor_reads(text)
    assert int(header[0]) == max(_published_utc_s(line["node_id"], recent) for line in lines)
    assert header[1] == "version=1.9.0"
    assert [line["node_id"] for line in lines] == sorted({f"${result.fingerprint}" for result in recent})
    assert not {key for line in lines for key in line} & {line.partition("=")[0] for line in header}
    for line in lines:
        _check_bandwidth(line, recent, known)
    assert len(BandwidthFile(text.encode(), validate=True).measurements) == len(lines)


def _published_utc_s(node_id: str, recent: list[LatestResult]) -> int:
    own = [result for result in recent if f"${result.fingerprint}" == node_id]
    chosen = [result for result in own if result.accepted] or own
    return int(min(max(result.ended_utc_s for result in chosen), NOW_UTC_S))


def _as_tor_reads(text: str) -> tuple[list[str], list[dict[str, str]]]:
    assert text.isascii()
    assert text.endswith("\n")
    assert max(len(line) for line in text.splitlines()) < 510
    head, _, body = text.partition("\n=====\n")
    header = head.splitlines()
    assert header[0].isdigit()
    assert all(KEY_VALUE.fullmatch(line) for line in header[1:])
    assert len(header) <= 50
    parsed = []
    for line in body.splitlines():
        pairs = line.split(" ")
        assert all(KEY_VALUE.fullmatch(pair) for pair in pairs), line
        values = dict(pair.split("=", 1) for pair in pairs)
        assert len(values) == len(pairs), "tor rejects a line with a key twice"
        parsed.append(values)
    return header, parsed


def _check_bandwidth(
    line: dict[str, str], recent: list[LatestResult], known: dict[Fingerprint, RelayInfo]
) -> None:
    own = [result for result in recent if f"${result.fingerprint}" == line["node_id"]]
    accepted = [result for result in own if result.accepted]
    assert ("ff_lower_bound" in line) == (not accepted)
    assert line["ff_result"] in {str(result.result_bytes) for result in accepted or own}
    bandwidth_kb = int(line["bw"])
    assert 1 <= bandwidth_kb <= max(1, int(line["ff_result"]) // 1000)
    relay = known.get(own[0].fingerprint)
    if relay is not None and relay.bandwidth_avg_bytes is not None:
        assert bandwidth_kb <= max(1, relay.bandwidth_avg_bytes // 1000)
