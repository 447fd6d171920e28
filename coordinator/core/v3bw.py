"""The bandwidth file for directory authorities (bandwidth-file-spec 1.9.0), as text.

tor ignores a file whose first line is over three days old, and one whose first line lies in the future keeps it from
reading later ones: the first line is the newest result's time and never later than now. `bw` is in units of 1000
bytes/s and never above the descriptor's bandwidth-avg. `ff_*` keys are FlashFlow's own; none is a header's name.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from flashflow.model.ids import Fingerprint
from flashflow.model.relay import RelayInfo
from flashflow.model.results import Standing
from flashflow.store.latest import LatestResult

SPEC_VERSION = "1.9.0"
"""Of the format."""
TERMINATOR = "====="
_NICKNAME = re.compile(r"[A-Za-z0-9]{1,19}")
_NOT_IN_VALUE = re.compile(r"[^!-~]")


def build_v3bw(
    results: Iterable[LatestResult],
    relays: Mapping[Fingerprint, RelayInfo],
    *,
    now_utc_s: float,
    started_utc_s: float,
    software_version: str,
    max_age_s: float,
    failures: Mapping[Fingerprint, int] | None = None,
    standings: Mapping[Fingerprint, Standing] | None = None,
) -> str | None:
    """The file's text, or None where no result is younger than `max_age_s`: then no file may be made.

    `relays` is what is known now (a relay without an entry is published by its result alone), `started_utc_s` when
    this coordinator started, `failures` how often each relay's measurement failed in the same time. `standings` tells
    what relays did since their last result: one that is excluded by it has a line that asks nobody to vote for it.
    """
    since_utc_s = now_utc_s - max_age_s
    out = {fp: standing for fp, standing in (standings or {}).items() if standing.excluded}
    recent = [result for result in results if result.ended_utc_s >= since_utc_s]
    chosen = _newest([result for result in recent if result.fingerprint not in out])
    shown = [one for one in out.values() if one.ended_utc_s >= since_utc_s or one.fingerprint in relays]
    if not chosen and not shown:
        return None
    failed = failures or {}
    times = [min(one.ended_utc_s, now_utc_s) for one in chosen or shown]
    header = [
        str(int(max(times))),
        f"version={SPEC_VERSION}",
        "software=flashflow",
        f"software_version={_NOT_IN_VALUE.sub('_', software_version)[:100] or 'unknown'}",
        f"file_created={_iso(now_utc_s)}",
        f"generator_started={_iso(started_utc_s)}",
        f"earliest_bandwidth={_iso(min(times))}",
        f"latest_bandwidth={_iso(max(times))}",
        f"number_eligible_relays={len(chosen)}",
        f"recent_measurement_failure_count={sum(failed.values())}",
        *_consensus_header(chosen, relays),
        TERMINATOR,
    ]
    known = standings or {}
    rows = {
        result.fingerprint: _row(result, relays.get(result.fingerprint), now_utc_s, failed, known)
        for result in chosen
    }
    rows |= {one.fingerprint: _excluded_row(one, now_utc_s, failed) for one in shown}
    return "".join(f"{line}\n" for line in [*header, *(rows[fingerprint] for fingerprint in sorted(rows))])


def _newest(results: Iterable[LatestResult]) -> list[LatestResult]:
    """One result for each relay, by fingerprint: accepted before lower bounds, then the newest."""
    best: dict[Fingerprint, LatestResult] = {}
    for result in results:
        known = best.get(result.fingerprint)
        if known is None or (result.accepted, result.ended_utc_s) > (known.accepted, known.ended_utc_s):
            best[result.fingerprint] = result
    return [best[fingerprint] for fingerprint in sorted(best)]


def _consensus_header(results: list[LatestResult], relays: Mapping[Fingerprint, RelayInfo]) -> list[str]:
    if not relays:
        return []
    listed = sum(result.fingerprint in relays for result in results)
    return [
        f"number_consensus_relays={len(relays)}",
        f"percent_eligible_relays={listed * 100 // len(relays)}",
    ]


def _excluded_row(standing: Standing, now_utc_s: float, failures: Mapping[Fingerprint, int]) -> str:
    """A relay of which no result counts: authorities treat it as one that nobody has measured."""
    pairs = {
        "node_id": f"${standing.fingerprint}",
        "bw": 1,
        "nick": standing.nickname,
        "time": _iso(min(standing.ended_utc_s, now_utc_s)),
        "unmeasured": 1,
        "vote": 0,
        "ff_mode": standing.mode,
    }
    return _line(pairs | _counts(standing.fingerprint, failures, {standing.fingerprint: standing}))


def _counts(
    fingerprint: Fingerprint, failures: Mapping[Fingerprint, int], standings: Mapping[Fingerprint, Standing]
) -> dict[str, int]:
    """What went wrong with a relay; zeros are left out."""
    standing = standings.get(fingerprint)
    counts = {
        "relay_recent_measurement_failure_count": failures.get(fingerprint, 0),
        "ff_relay_failures": standing.relay_failures if standing else 0,
        "ff_forgeries": standing.forgeries if standing else 0,
    }
    return {key: count for key, count in counts.items() if count}


def _line(pairs: dict[str, object]) -> str:
    if _NICKNAME.fullmatch(str(pairs["nick"])) is None:
        del pairs["nick"]  # what is no nickname must not become another key of this line
    return " ".join(f"{key}={value}" for key, value in pairs.items())


def _row(
    result: LatestResult,
    relay: RelayInfo | None,
    now_utc_s: float,
    failures: Mapping[Fingerprint, int],
    standings: Mapping[Fingerprint, Standing],
) -> str:
    pairs: dict[str, object] = {
        "node_id": f"${result.fingerprint}",
        "bw": _bandwidth_kb(result, relay),
        "nick": relay.nickname if relay else result.nickname,
        "time": _iso(min(result.ended_utc_s, now_utc_s)),
        "ff_mode": result.mode,
        "ff_result": result.result_bytes,
        "ff_background": result.background_bytes,
    }
    if not result.accepted:
        pairs["ff_lower_bound"] = 1
    pairs |= _counts(result.fingerprint, failures, standings)
    if relay:
        pairs |= _known(relay)
    return _line(pairs)


def _bandwidth_kb(result: LatestResult, relay: RelayInfo | None) -> int:
    """The relay's present descriptor limits it, or the one at the time of measuring where none is known now."""
    limit = relay.bandwidth_avg_bytes if relay else None
    if limit is None:
        limit = result.bandwidth_avg_bytes
    bandwidth = result.result_bytes if limit is None else min(result.result_bytes, limit)
    return max(1, bandwidth // 1000)


def _known(relay: RelayInfo) -> dict[str, object]:
    """What the consensus and the descriptor say; unknown things are left out."""
    weight_kb = relay.consensus_weight_kb
    pairs = {
        "master_key_ed25519": base64.b64encode(relay.ed25519).decode().rstrip("=") if relay.ed25519 else None,
        "desc_bw_avg": relay.bandwidth_avg_bytes,
        "desc_bw_bur": relay.bandwidth_burst_bytes,
        "desc_bw_obs_last": relay.bandwidth_observed_bytes,
        "consensus_bandwidth": None if weight_kb is None else weight_kb * 1000,
        "consensus_bandwidth_is_unmeasured": relay.unmeasured,
    }
    return {key: value for key, value in pairs.items() if value is not None}


def _iso(utc_s: float) -> str:
    return datetime.fromtimestamp(int(utc_s), UTC).strftime("%Y-%m-%dT%H:%M:%S")
