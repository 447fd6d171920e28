"""What `flashflow demo --tor` found: measurements beside tor's own counts, the v3bw file beside the consensus."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flashflow.ctrl.tables import Table
from flashflow.demo.report import MAX_COUNT_ERROR_PCT, Compared, compare, percent_off
from flashflow.model.ids import Fingerprint
from flashflow.testnet.tornet_bw import BwMedian
from flashflow.testnet.tornet_documents import ConsensusEntry

TOR_MACHINE_LIMITED_SHARE = 0.6
"""tor's token buckets let through 0.70 to 0.95 of RelayBandwidthRate; below this share the machine was the limit."""

MAX_SPREAD = 0.15
"""Where BW events differ by more, their median is no yardstick for seconds that begin at other moments."""


@dataclass(frozen=True, slots=True)
class TorRow(Compared):
    """One stock tor relay, as it stands in demo.json; `relay_counted_mbps` is from its own BW events, as cell bytes."""

    configured_mbps: float | None
    """Its RelayBandwidthRate, Mbit/s of TLS bytes; None for no limit."""
    machine_limited: bool
    """It has no limit, or its own count is below 60 % of that."""
    relay_counted_raw_mbps: float
    """The same median as tor counts it: TLS bytes."""
    relay_counted_spread: float
    """The greatest less the least of these BW events, over their median."""
    relay_counter_mbps: float
    """Median over the measurement's own seconds of what tor's read counter grew by, as cell bytes."""
    counter_error_pct: float
    """measured_mbps against relay_counter_mbps."""
    v3bw_weight: int
    """`bw` of the v3bw file, units of 1000 bytes/s."""
    consensus_weight: int
    """`w Bandwidth=` of the consensus, units of 1000 bytes/s; 0 if the relay is not in it."""
    consensus_unmeasured: bool
    """Whether the consensus marks it Unmeasured."""
    defences_acted: int
    """How often tor's defences refused, killed or marked something since the relay started."""


def make_tor_row(
    result: Mapping[str, Any],
    configured_mbps: float | None,
    counted: BwMedian,
    *,
    v3bw_weight: int,
    entry: ConsensusEntry | None,
    defences_acted: int,
) -> TorRow:
    """The row for the coordinator's result object (a successful one); without an entry the consensus lacks the relay."""
    compared = compare(result, counted.cell_mbps)
    limited_below_mbps = TOR_MACHINE_LIMITED_SHARE * configured_mbps if configured_mbps else math.inf
    return TorRow(
        **asdict(compared),
        configured_mbps=configured_mbps,
        machine_limited=counted.cell_mbps < limited_below_mbps,
        relay_counted_raw_mbps=round(counted.raw_mbps, 3),
        relay_counted_spread=round(counted.spread, 3),
        relay_counter_mbps=round(counted.counter_mbps, 3),
        counter_error_pct=round(percent_off(compared.measured_mbps, counted.counter_mbps), 3),
        v3bw_weight=v3bw_weight,
        consensus_weight=entry.weight_kb if entry else 0,
        consensus_unmeasured=entry.unmeasured if entry else True,
        defences_acted=defences_acted,
    )


def v3bw_weights(text: str) -> dict[Fingerprint, int]:
    """`bw` by relay, of a v3bw file of our own."""
    _, _, rows = text.partition("\n=====\n")
    pairs = [dict(word.split("=", 1) for word in row.split()) for row in rows.splitlines()]
    return {Fingerprint(row["node_id"].removeprefix("$")): int(row["bw"]) for row in pairs}


def is_carried(weights: Mapping[Fingerprint, int], entries: Mapping[Fingerprint, ConsensusEntry]) -> bool:
    """Whether a consensus has every weight of the v3bw file as a measured one."""
    return all(
        (entry := entries.get(fingerprint)) is not None and not entry.unmeasured and entry.weight_kb == weight
        for fingerprint, weight in weights.items()
    )


def is_unsteady(row: TorRow) -> bool:
    """Whether tor's own seconds differ so much that its counter at the measurement's seconds is the yardstick."""
    return row.relay_counted_spread > MAX_SPREAD


def tor_notes(rows: Sequence[TorRow]) -> list[str]:
    """What is to be said about relays beside the table, a line each."""
    return [
        f"{row.nickname}: tor's own seconds differ by {row.relay_counted_spread:.0%}, so the measurement's count instead:"
        f" by tor's counter it read {row.relay_counter_mbps:.1f} in them, {row.counter_error_pct:+.2f} %"
        for row in rows
        if is_unsteady(row)
    ]


def tor_complaints(row: TorRow) -> list[str]:
    """What is wrong with a relay's figures, each in a line."""
    found = []
    if is_unsteady(row):
        off_pct, counted_mbps = row.counter_error_pct, row.relay_counter_mbps
    else:
        off_pct, counted_mbps = row.error_pct, row.relay_counted_mbps
    if abs(off_pct) > MAX_COUNT_ERROR_PCT:
        found.append(
            f"{row.nickname}: measured {row.measured_mbps:.1f} Mbit/s is {off_pct:+.1f} % off tor's own count,"
            f" {counted_mbps:.1f} (at most {MAX_COUNT_ERROR_PCT:g} % allowed)"
        )
    if row.consensus_unmeasured or row.consensus_weight != row.v3bw_weight:
        unmeasured = " Unmeasured=1" if row.consensus_unmeasured else ""
        found.append(
            f"{row.nickname}: the consensus has Bandwidth={row.consensus_weight}{unmeasured},"
            f" the v3bw file bw={row.v3bw_weight}"
        )
    if row.defences_acted:
        found.append(f"{row.nickname}: tor's defences acted {row.defences_acted} times")
    return found


def tor_table(rows: Sequence[TorRow]) -> Table:
    """The table at the end."""
    columns = (
        "Mbit/s",
        "limit>",
        "tor counted>",
        "as cells>",
        "measured>",
        "error>",
        "v3bw bw>",
        "consensus>",
    )
    return Table(columns, [_cells(row) for row in rows])


def _cells(row: TorRow) -> list[str]:
    rates = (row.relay_counted_raw_mbps, row.relay_counted_mbps, row.measured_mbps)
    return [
        row.nickname,
        "none" if row.configured_mbps is None else f"{row.configured_mbps:g}",
        *(f"{rate:.1f}" for rate in rates),
        f"{row.error_pct:+.2f} %",
        str(row.v3bw_weight),
        str(row.consensus_weight),
    ]
