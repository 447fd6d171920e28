"""What a relay can probably do, before it is measured, and what it is to be loaded with."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from coordinator.core.params import Params
from coordinator.core.schedule import Candidate
from flashflow.model.ids import Fingerprint, Mode
from flashflow.model.relay import RelayInfo
from flashflow.model.units import BYTES_PER_MBIT
from flashflow.store.latest import LatestResult

FLOOR_BYTES = BYTES_PER_MBIT
"""No estimate is below 1 Mbit/s: a relay that looks slow may only be new."""
WEIGHT_UNIT_BYTES = 1000
"""Of `w Bandwidth=`."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A relay's estimated capacity."""

    rate_bytes: int
    """Cell bytes/s."""
    ours: bool
    """It is our own accepted result."""


def estimates(
    relays: Iterable[RelayInfo],
    results: Mapping[Fingerprint, LatestResult],
    modes: Mapping[Fingerprint, Mode],
    raised: Mapping[Fingerprint, int],
    usual: int | None = None,
) -> dict[Fingerprint, Estimate]:
    """For each relay: our last accepted result, else what the consensus or its descriptor says, else a usual value.

    A result counts if it was measured in the mode that `modes` gives. `usual` is taken from these relays if it is not
    given. `raised` are estimates that were doubled since; one wins where it is larger.
    """
    relays = list(relays)
    public = {relay.fingerprint: _published(relay) for relay in relays}
    usual = usual_bytes(relays) if usual is None else usual
    found = {}
    for fingerprint, rate in public.items():
        result = results.get(fingerprint)
        ours = result is not None and result.accepted and result.mode == modes.get(fingerprint)
        best = result.result_bytes if result is not None and ours else usual if rate is None else rate
        higher = raised.get(fingerprint, 0)
        found[fingerprint] = Estimate(max(best, higher, FLOOR_BYTES), ours and higher <= best)
    return found


def usual_bytes(relays: Iterable[RelayInfo]) -> int:
    """The 75th percentile of what is published, for relays of which nothing is."""
    return _upper_quartile([rate for relay in relays if (rate := _published(relay)) is not None])


def candidates(
    known: Mapping[Fingerprint, Estimate],
    limits: Mapping[Fingerprint, int],
    groups: Iterable[Iterable[Fingerprint]],
    params: Params,
) -> list[Candidate]:
    """What the schedule places: f x estimate for each relay, within the relay filter's limit for it, and its group."""
    group_of = {member: number for number, members in enumerate(groups) for member in members}
    found = []
    for fingerprint, estimate in known.items():
        wanted = ceil(estimate.rate_bytes * params.factor(ours=estimate.ours))
        rate = min(wanted, limits.get(fingerprint, wanted))
        found.append(Candidate(fingerprint, rate, group_of.get(fingerprint)))
    return found


def _published(relay: RelayInfo) -> int | None:
    """What the network says of the relay, bytes/s; None if nobody has measured it and it says nothing itself."""
    if relay.unmeasured:
        return None
    if relay.consensus_weight_kb is not None:
        return relay.consensus_weight_kb * WEIGHT_UNIT_BYTES
    if relay.bandwidth_observed_bytes is None or relay.bandwidth_avg_bytes is None:
        return relay.bandwidth_observed_bytes
    return min(relay.bandwidth_observed_bytes, relay.bandwidth_avg_bytes)


def _upper_quartile(rates: list[int]) -> int:
    """The 75th percentile by nearest rank; 0 of nothing."""
    return sorted(rates)[ceil(len(rates) * 3 / 4) - 1] if rates else 0
