"""How rates go into capacity: a team's crews, which crew takes which relay, what each measurer carries.

A relay is told of ten measurers at most (proposal 316, num_measurers). So a larger team works as several crews of at
most ten; a relay belongs to one crew, and has room if its rate is at most the sum of what that crew has left.
"""

from collections.abc import Iterator, Mapping, Sequence

from flashflow.torctl.commands import MAX_MEASURERS

SEARCH_STEPS = 2000
"""Spent on looking for a better packing than first fit; more is not worth the time."""

Crew = dict[str, int]
"""Measurer -> capacity, cell bytes/s."""


def crews_of(team: Mapping[str, int]) -> tuple[Crew, ...]:
    """The team in crews: the ten largest measurers, the next ten, and so on. Those without capacity are left out."""
    names = sorted((name for name in team if team[name] > 0), key=lambda name: (-team[name], name))
    starts = range(0, len(names), MAX_MEASURERS)
    return tuple({name: team[name] for name in names[at : at + MAX_MEASURERS]} for at in starts)


def packed(rates: Sequence[int], rooms: Sequence[int], search_steps: int = 0) -> list[int] | None:
    """The room for each of the rates, by first fit, and if that fails by a search of so many steps; None if neither does.

    Give the rates largest first.
    """
    free = list(rooms)
    chosen: list[int] = []
    start = 0
    for _ in range(len(rates) + search_steps):
        if len(chosen) == len(rates):
            return chosen
        rate = rates[len(chosen)]
        room = next(_different_rooms(free, rate, start), None)
        if room is not None:
            free[room] -= rate
            chosen.append(room)
            start = 0
        elif chosen:
            start = chosen.pop()
            free[start] += rates[len(chosen)]
            start += 1
        else:
            return None
    return chosen if len(chosen) == len(rates) else None


def _different_rooms(free: list[int], rate: int, start: int) -> Iterator[int]:
    """Rooms for `rate` from number `start`; of rooms that have equally much left, only the first."""
    return (room for room in range(start, len(free)) if free[room] >= rate and free.index(free[room]) == room)


def spread(rate_bytes: int, free: Mapping[str, int]) -> dict[str, int]:
    """The rate over measurers, in proportion to what each has free; it must not be more than they have together."""
    total = sum(free.values())
    shares = {name: rate_bytes * room // total for name, room in free.items()}
    rest = rate_bytes - sum(shares.values())
    for name in sorted(free, key=lambda name: (shares[name] - free[name], name)):  # most left first
        more = min(rest, free[name] - shares[name])
        shares[name] += more
        rest -= more
    return {name: share for name, share in shares.items() if share}
