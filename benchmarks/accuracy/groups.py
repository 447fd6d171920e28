"""What `make accuracy` measures."""

from collections.abc import Sequence
from dataclasses import dataclass

from flashflow.demo.tor_plan import STEADY_RELAY

SLOW_MBPS = (3.0, 5.0, 8.0, 12.0, 20.0, 40.0)
"""Limits of the relays that are measured at the same time."""
MEDIUM_MBPS = (80.0, 120.0)
"""The same, apart from the slow ones: 200 Mbit/s together is what two cores carry with room to spare."""
FAST_MBPS = (200.0, 400.0)
"""Limits of the relays that are measured alone."""
LINK_MBPS = (200.0, 50.0, 10.0)
"""Rates of shaped links, falling: a relay is measured with a multiple of what it was seen to do last."""
SLOW_ROUNDS = 9
"""With the first measurement, which is alone, ten runs of each slow relay."""
FAST_ROUNDS = 2
LINK_ROUNDS = 2

Limit = float | None
"""Mbit/s; None for no limit but the machine's."""
Batch = tuple[Limit, ...]
"""Limits of the relays (or the one link) that are measured at the same time."""


@dataclass(frozen=True, slots=True)
class Group:
    """Measurements of one deployment."""

    name: str
    """What the command line calls it."""
    mode: str
    """echo: reference relays. loop: stock tor."""
    kind: str
    """What limits the relays: `relay`, `link`."""
    batches: tuple[Batch, ...]
    """What is measured, in this order."""
    torrc_lines: tuple[str, ...] = ()
    """Further lines of each stock tor's torrc."""

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Each limit once, in the order in which it comes first."""
        return tuple(dict.fromkeys(limit for batch in self.batches for limit in batch))

    @property
    def count(self) -> int:
        """How many measurements it has."""
        return sum(map(len, self.batches))


def relay_batches() -> tuple[Batch, ...]:
    """Every relay alone first, with the whole team, for nothing is known of it; then again with what is known."""
    alone: list[Batch] = [(limit,) for limit in (*SLOW_MBPS, *MEDIUM_MBPS, *FAST_MBPS)]
    fast: list[Batch] = [MEDIUM_MBPS, *((limit,) for limit in FAST_MBPS)]
    return (*alone, *SLOW_ROUNDS * [SLOW_MBPS], *FAST_ROUNDS * fast)


def link_batches() -> tuple[Batch, ...]:
    """One relay behind one link, whose rate changes."""
    return tuple((mbps,) for mbps in LINK_MBPS for _ in range(LINK_ROUNDS))


UNLIMITED: tuple[Batch, ...] = (1 + FAST_ROUNDS) * ((None,),)
GROUPS = (
    Group("loop", "loop", "relay", relay_batches(), STEADY_RELAY),
    Group("loop-default", "loop", "relay", ((8.0,), (40.0,), (120.0,), *4 * ((8.0, 40.0, 120.0),))),
    Group("loop-unlimited", "loop", "relay", UNLIMITED, STEADY_RELAY),
    Group("loop-link", "loop", "link", link_batches()),
    Group("echo", "echo", "relay", relay_batches()),
    Group("echo-unlimited", "echo", "relay", UNLIMITED),
    Group("echo-link", "echo", "link", link_batches()),
)
"""Everything. `loop` has relays that refill their token buckets every 10 ms, `loop-default` every 100 ms as tor does."""


def chosen(names: Sequence[str]) -> list[Group]:
    """The groups of these names, or all. ValueError for a name that is none."""
    known = {group.name: group for group in GROUPS}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--groups {','.join(unknown)}: expected some of {','.join(known)}")
    return [known[name] for name in names or known]


def shortened(group: Group, rounds: int) -> Group:
    """The group with at most so many measurements of each limit: for trying the program itself."""
    seen: dict[Limit, int] = {}
    batches = []
    for batch in group.batches:
        if max(seen.get(limit, 0) for limit in batch) < rounds:
            batches.append(batch)
            seen |= {limit: seen.get(limit, 0) + 1 for limit in batch}
    return Group(group.name, group.mode, group.kind, tuple(batches), group.torrc_lines)


def expected_s(group: Group, duration_s: int) -> float:
    """About how long it takes."""
    return SETUP_S[group.mode] + len(group.batches) * (duration_s + AROUND_S)


SETUP_S = {"loop": 40.0, "echo": 8.0}
"""Start of a deployment, about."""
AROUND_S = 4.0
"""A measurement's set-up, warm-up and end, about."""
