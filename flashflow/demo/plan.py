"""What a demo is to do, checked."""

import math
from dataclasses import dataclass

from flashflow.model.errors import UsageError

DEFAULT_RATES_MBPS = (8.0, 40.0, 120.0, 400.0)
"""Relay limits of a demo that names none."""
DEFAULT_DURATION_S = 10
"""Seconds that a measurement counts in a demo that names none."""
MEASURERS = ("measurer1", "measurer2")
"""Names of the demo's measurers."""
TEAM_FACTOR = 2.95
"""The team's capacity over the fastest relay's rate: the paper's f, above which a result is accepted."""
LEAST_MEASURER_MBPS = 600
"""Capacity of each measurer in a demo of slow relays."""
BACKGROUND_RATIO = 0.25
"""r of the demo's coordinator and relays."""
MAX_RELAYS = 50
MAX_RATE_MBPS = 100_000.0
MAX_DURATION_S = 600


@dataclass(frozen=True, slots=True)
class Plan:
    """One demo."""

    rates_mbps: tuple[float, ...]
    """Each relay's limit, Mbit/s."""
    duration_s: int
    """Seconds that each measurement counts."""
    background_percent: float
    """Background traffic during a measurement, percent of the relay's limit."""
    host: str
    """The loopback address of every socket: 127.0.0.1 or ::1."""

    @property
    def first_mbps(self) -> tuple[float, ...]:
        """The limits of the relays that are there from the begin."""
        return self.rates_mbps

    @property
    def measurer_mbps(self) -> int:
        """The capacity that each measurer's own configuration states; a round figure."""
        needed = TEAM_FACTOR * max(self.rates_mbps) / len(MEASURERS)
        return max(LEAST_MEASURER_MBPS, 100 * math.ceil(needed / 100))


def parse_rates(text: str) -> tuple[float, ...]:
    """Rates such as `8,40,120.5`, Mbit/s. Raises UsageError."""
    try:
        rates = tuple(float(word) for word in text.split(","))
    except ValueError:
        rates = ()
    if not rates or not all(0.1 <= rate <= MAX_RATE_MBPS for rate in rates):
        raise UsageError(
            f"--rates {text[:60]!r}: expected Mbit/s between commas, each from 0.1 to {MAX_RATE_MBPS:g},"
            " such as 8,40,120,400"
        )
    return rates


def make_plan(relays: int | None, rates: str | None, duration_s: int, background: float, host: str) -> Plan:
    """The plan for the command line's options. Raises UsageError."""
    if relays is not None and not 1 <= relays <= MAX_RELAYS:
        raise UsageError(f"--relays {relays}: expected 1 to {MAX_RELAYS}")
    if rates is None:
        count = relays or len(DEFAULT_RATES_MBPS)
        rates_mbps = tuple(DEFAULT_RATES_MBPS[i % len(DEFAULT_RATES_MBPS)] for i in range(count))
    else:
        rates_mbps = parse_rates(rates)
        if relays is not None and relays != len(rates_mbps):
            raise UsageError(
                f"--relays {relays}, but --rates gives {len(rates_mbps)}: expected a rate for each relay"
            )
    if not 1 <= duration_s <= MAX_DURATION_S:
        raise UsageError(f"--duration {duration_s}: expected 1 to {MAX_DURATION_S} seconds")
    if not 0 <= background <= 90:
        raise UsageError(f"--background {background:g}: expected a percentage from 0 to 90")
    if host not in ("127.0.0.1", "::1"):
        raise UsageError(f"--host {host[:60]!r}: expected 127.0.0.1 or ::1")
    return Plan(rates_mbps, duration_s, background, host)
