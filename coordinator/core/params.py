"""What the core has to know of the configuration."""

from dataclasses import dataclass
from fractions import Fraction

from coordinator.core.colocation import Kind
from coordinator.core.schedule import Strategy


@dataclass(frozen=True, slots=True)
class Params:
    """Parameters of the deployment."""

    duration_s: int = 30
    """D, seconds measured; also the number of reports each party gives."""
    warmup_s: int = 2
    """Seconds of traffic before second 1."""
    background_ratio: Fraction = Fraction(1, 4)
    """r in (0, 1/2): the largest share of background traffic that is believed."""
    slot_s: int = 60
    """Length of a slot."""
    period_s: int = 86400
    """Length of a period; periods start at 00:00 UTC."""
    multiplier: Fraction = Fraction(9, 4)
    """m of the paper."""
    multiplier_known: Fraction = Fraction(9, 4)
    """m for relays whose estimate is our own accepted result."""
    epsilon1: Fraction = Fraction(1, 5)
    """How far below the capacity a correct result may be."""
    epsilon2: Fraction = Fraction(1, 20)
    """How far above the capacity a correct result may be."""
    strategy: Strategy = "uniform"
    """How relays are spread over a period."""
    colocation: frozenset[Kind] = frozenset()
    """What makes relays share a slot."""
    deployment: int = 0
    """k: the number of this deployment among those that share its secret, from 0."""
    deployments: int = 1
    """K: how many deployments share the secret."""
    v3bw_interval_s: int = 3600
    """A v3bw file is written this often."""
    directory_refresh_s: int = 3600
    """Consensus, descriptors and filter are read again this often."""
    version: str = "?"
    """FlashFlow's version."""

    @property
    def layout(self) -> tuple[int, ...]:
        """What a slot's number means, and whose it is."""
        return self.period_s, self.slot_s, self.deployment, self.deployments

    @property
    def allocation_factor(self) -> Fraction:
        """f = m(1+e2)/(1-e1): how many times the estimate a relay is loaded with."""
        return self.factor(ours=False)

    def factor(self, *, ours: bool) -> Fraction:
        """f for an estimate that is our own accepted result, or for another."""
        return self._m(ours=ours) * (1 + self.epsilon2) / (1 - self.epsilon1)

    def accepts(self, result_bytes: int, allocated_bytes: int, *, ours: bool = False) -> bool:
        """Whether a result is far enough below what was allocated to be the relay's limit and not ours.

        `ours`: what was allocated came from an estimate that was our own accepted result.
        """
        return result_bytes < allocated_bytes * (1 - self.epsilon1) / self._m(ours=ours)

    def _m(self, *, ours: bool) -> Fraction:
        return self.multiplier_known if ours else self.multiplier
