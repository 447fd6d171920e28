"""What a demo with stock tor is to do, checked."""

from dataclasses import dataclass

from flashflow.demo.plan import MAX_DURATION_S, MAX_RATE_MBPS
from flashflow.model.errors import UsageError
from flashflow.testnet.tornet import LIVE_PARAMS

UNLIMITED = "unlimited"
DEFAULT_RATES_MBPS: tuple[float | None, ...] = (8.0, 40.0, 120.0, None)
"""Relay limits of a demo that names none; None for no limit."""
LEAST_RATE_MBPS = 1.0
"""tor refuses a RelayBandwidthRate below 75 KB/s."""
MAX_TOR_RELAYS = 20
MEASURER_MBPS = 1000
"""Capacity of each measurer: the team's, over the paper's m / (1 - ε1) = 2.81, is the highest result it accepts."""
DEFAULT_DURATION_S = 25
STEADY_RELAY = ("TokenBucketRefillInterval 10 msec",)
"""torrc lines of the relays. With tor's default of 100 ms a limited relay reads in eight or nine bursts a second, so
that its seconds differ by a tenth, and medians of seconds that begin at different moments by 2 %: what FlashFlow and
what tor count could not be compared to better than that within a quarter of a minute."""
NETWORK_HOSTS = {"127.0.0.1": "127.0.0.2", "::1": "::1"}
"""Where the tors are, by where coordinator and measurers are: tor's defences spare the addresses of known relays."""


@dataclass(frozen=True, slots=True)
class TorPlan:
    """One demo with stock tor."""

    rates_mbps: tuple[float | None, ...]
    """Each relay's RelayBandwidthRate, Mbit/s; None for no limit."""
    duration_s: int
    """Seconds that each measurement counts."""
    host: str = "127.0.0.1"
    """The loopback address of coordinator and measurers: 127.0.0.1 or ::1."""
    consensus_params: str = LIVE_PARAMS
    """Parameters that the authorities vote for."""
    measurer_mbps: int = MEASURER_MBPS
    """Each measurer's capacity."""
    relay_lines: tuple[str, ...] = STEADY_RELAY
    """Further lines of every relay's torrc."""

    @property
    def network_host(self) -> str:
        """The loopback address of the tors."""
        return NETWORK_HOSTS[self.host]


def parse_tor_rates(text: str) -> tuple[float | None, ...]:
    """Rates such as `8,40,unlimited`, Mbit/s. Raises UsageError."""
    try:
        rates = tuple(None if word.strip() == UNLIMITED else float(word) for word in text.split(","))
        right = all(rate is None or LEAST_RATE_MBPS <= rate <= MAX_RATE_MBPS for rate in rates)
    except ValueError:
        right = False
    if not right or len(rates) > MAX_TOR_RELAYS:
        raise UsageError(
            f"--rates {text[:60]!r}: expected up to {MAX_TOR_RELAYS} numbers of Mbit/s between commas, each from"
            f" {LEAST_RATE_MBPS:g} to {MAX_RATE_MBPS:g} or {UNLIMITED}, such as 8,40,{UNLIMITED}"
        )
    return rates


def make_tor_plan(
    relays: int | None, rates: str | None, duration_s: int | None, background: float, host: str
) -> TorPlan:
    """The plan for the command line's options with --tor. Raises UsageError."""
    if relays is not None and not 1 <= relays <= MAX_TOR_RELAYS:
        raise UsageError(f"--relays {relays}: expected 1 to {MAX_TOR_RELAYS} with --tor")
    if rates is None:
        count = relays or len(DEFAULT_RATES_MBPS)
        rates_mbps = tuple(DEFAULT_RATES_MBPS[i % len(DEFAULT_RATES_MBPS)] for i in range(count))
    else:
        rates_mbps = parse_tor_rates(rates)
        if relays is not None and relays != len(rates_mbps):
            raise UsageError(
                f"--relays {relays}, but --rates gives {len(rates_mbps)}: expected a rate for each relay"
            )
    duration_s = DEFAULT_DURATION_S if duration_s is None else duration_s
    if not 1 <= duration_s <= MAX_DURATION_S:
        raise UsageError(f"--duration {duration_s}: expected 1 to {MAX_DURATION_S} seconds")
    if background:
        raise UsageError(f"--background {background:g}: expected 0 with --tor (stock tor reports none)")
    if host not in NETWORK_HOSTS:
        raise UsageError(f"--host {host[:60]!r}: expected 127.0.0.1 or ::1")
    return TorPlan(rates_mbps, duration_s, host)
