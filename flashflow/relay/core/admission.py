"""Who may measure this relay, and how often (proposal 316, 3.1.1)."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flashflow.orlink.meas import VERSION, MeasErrCode, MeasParams


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """What the relay's operator decided."""

    coordinators: frozenset[bytes]
    """SHA-256 of the TLS certificates of trusted coordinators; empty: nobody may measure."""
    period_s: float = 86_400.0
    """Length of the window in which accepted measurements are counted."""
    max_per_period: int = 2
    """Most measurements accepted from one coordinator within any window of that length."""
    max_duration_s: int = 120
    """Longest measurement accepted, warm-up included."""
    setup_s: float = 30.0
    """After acceptance the first MEAS_ECHO cell has to come within this time."""


class Admissions:
    """Counts accepted MEAS_PARAMS per coordinator, whatever came after them."""

    def __init__(self, rules: AdmissionRules, accepted: Mapping[bytes, Sequence[float]]) -> None:
        """`accepted`: what earlier runs accepted, certificate -> times, oldest first."""
        self._rules = rules
        self._accepted = {certificate: deque(times) for certificate, times in accepted.items()}

    def refusal(
        self, certificate: bytes | None, params: MeasParams | None, busy: bool, now_s: float
    ) -> MeasErrCode | None:
        """Why `params` (None: malformed) from the holder of `certificate` are refused, or None if they are fine."""
        if certificate is None or certificate not in self._rules.coordinators:
            return MeasErrCode.NOT_TRUSTED
        if params is None:
            return MeasErrCode.BAD_PARAMS
        if params.version != VERSION:
            return MeasErrCode.BAD_VERSION
        if params.duration_s > self._rules.max_duration_s or not _distinct_tokens(params):
            return MeasErrCode.BAD_PARAMS
        if len(self._recent(certificate, now_s)) >= self._rules.max_per_period:
            return MeasErrCode.TOO_MANY
        return MeasErrCode.BUSY if busy else None

    def accept(self, certificate: bytes, now_s: float) -> None:
        """Counts one accepted measurement."""
        self._recent(certificate, now_s).append(now_s)

    def recent(self, now_s: float) -> dict[bytes, tuple[float, ...]]:
        """What still counts: certificate -> times, oldest first."""
        found = {certificate: tuple(self._recent(certificate, now_s)) for certificate in self._accepted}
        return {certificate: times for certificate, times in found.items() if times}

    def _recent(self, certificate: bytes, now_s: float) -> deque[float]:
        times = self._accepted.setdefault(certificate, deque())
        while times and times[0] <= now_s - self._rules.period_s:
            times.popleft()
        return times


def _distinct_tokens(params: MeasParams) -> bool:
    return len({measurer.token for measurer in params.measurers}) == len(params.measurers)
