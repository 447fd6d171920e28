"""The sums (docs/architecture.md, "Units and rules of counting"; proposal 316, section 3.2.1.1).

A relay may hold what it was sent and let it go later, so that most seconds look better than what it carries. What it could
have held is known: what was outstanding. `steady_bytes` is the rate that is shown whatever it held, and the result stays
by that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median

from flashflow.model.errors import ErrorKind
from flashflow.model.reports import SecondReport
from flashflow.model.results import Failure

MAX_LEFT_OUT = Fraction(1, 5)
"""Largest share of seconds that may be left out because a measurer's report is missing."""
HELD_TOLERANCE_S = Fraction(6, 10)
"""So many seconds of its steady rate a result may show too much over the whole measurement: 2 % of 30 s. What an honest
relay's outstanding data takes off its steady rate is less than that."""


@dataclass(frozen=True, slots=True)
class SecondTotal:
    """One second of a measurement."""

    second: int
    """1..D."""
    measured_bytes: int
    """x, the sum of the measurers' verified received cell bytes."""
    background_bytes: int
    """The background that is believed, cell bytes."""

    @property
    def total_bytes(self) -> int:
        """What the relay is believed to have carried, cell bytes."""
        return self.measured_bytes + self.background_bytes


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A measurement summed up."""

    seconds: tuple[SecondTotal, ...]
    """The seconds that counted, ascending."""
    result_bytes: int
    """Median of their totals, or what the steady rate allows if that is less, cell bytes/s."""
    background_bytes: int
    """Median of the believed background, cell bytes/s."""


def max_background(measured_bytes: int, ratio: Fraction) -> int:
    """floor(x r / (1 - r)): the most background that is believed beside x, exactly."""
    return int(measured_bytes * ratio / (1 - ratio))


def second_total(
    second: int, measured: Sequence[SecondReport], background: SecondReport | None, ratio: Fraction
) -> SecondTotal:
    """One second from the measurers' reports of it and the relay's, which counts 0 if it is missing."""
    x = sum(report.recv_bytes for report in measured)
    claimed = min(background.sent_bytes, background.recv_bytes) if background else 0
    return SecondTotal(second, x, min(claimed, max_background(x, ratio)))


def max_left_out(duration_s: int) -> int:
    """How many seconds may be left out."""
    return int(duration_s * MAX_LEFT_OUT)


def aggregate(
    duration_s: int,
    reports: Sequence[Mapping[int, SecondReport]],
    background: Mapping[int, SecondReport],
    ratio: Fraction,
) -> Aggregate | Failure:
    """Sum up: `reports` per measurer and `background`, each by second 1..D.

    A second that any measurer lacks is left out for all; more than 20 % of them is a failure.
    """
    totals = [
        second_total(n, [of_one[n] for of_one in reports], background.get(n), ratio)
        for n in range(1, duration_s + 1)
        if all(n in of_one for of_one in reports)
    ]
    missing = duration_s - len(totals)
    if not reports or not totals or missing > max_left_out(duration_s):
        reason = f"{missing} of {duration_s} seconds lack a measurer's report (at most {max_left_out(duration_s)} may)"
        return Failure(ErrorKind.NETWORK, reason, by_measurer=True)
    result = int(median(total.total_bytes for total in totals))
    steady = steady_bytes(totals, _outstanding_bytes(totals, reports))
    if steady is not None:
        result = min(result, int(steady * (1 + HELD_TOLERANCE_S / duration_s)))
    return Aggregate(tuple(totals), result, int(median(total.background_bytes for total in totals)))


def steady_bytes(totals: Sequence[SecondTotal], outstanding: Sequence[int]) -> Fraction | None:
    """The highest rate, cell bytes/s, that some of the seconds in a row prove; None for a single second.

    `outstanding` has the cell bytes that were on their way at the end of each second. Of what came back after that second
    the relay may have had so much already; the rest it has carried since. The share of background that is believed stays
    the same. So a relay that carries C a second proves no more than C, with background C / (1 - r).
    """
    if len(totals) < 2:
        return None
    most, over = 0, 1
    for start, held in enumerate(outstanding):
        total = measured = 0
        for length, second in enumerate(totals[start + 1 :], 1):
            total += second.total_bytes
            measured += second.measured_bytes
            shown, span = total * (measured - held), measured * length
            if shown * over > most * span:
                most, over = shown, span
    return Fraction(most, over)


def _outstanding_bytes(
    totals: Sequence[SecondTotal], reports: Sequence[Mapping[int, SecondReport]]
) -> list[int]:
    """What was on its way at the end of each second that counts: the first one's `sent` has what was before."""
    found: list[int] = []
    outstanding = 0
    for total in totals:
        parts = [of_one[total.second] for of_one in reports]
        outstanding += sum(part.sent_bytes - part.recv_bytes for part in parts)
        found.append(max(0, outstanding))
    return found
