"""Per-second reports: seconds are numbered 1..D by each party from the start of its own active phase."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SecondReport:
    """What one party counted in one second."""

    second: int
    """1..duration, by the party's own clock; never matched by wall clocks."""
    sent_bytes: int
    """Cell bytes sent in that second; a measurer adds what was outstanding as second 1 began to that one's, so that sent less
    received, summed up, is what is outstanding at the end of any second."""
    recv_bytes: int
    """Cell bytes received in that second; a measurer counts verified ones only."""
