"""Units. Capacity is cell bytes (514 a cell) that a relay reads per second; Mbit is 10^6 bit."""

CELL_BYTES = 514
PAYLOAD_BYTES = 509
BYTES_PER_MBIT = 125_000


def to_mbps(bytes_per_s: float) -> float:
    """Bytes per second as Mbit/s (10^6 bit)."""
    return bytes_per_s / BYTES_PER_MBIT


def from_mbps(mbps: float) -> int:
    """Mbit/s (10^6 bit) as whole bytes per second."""
    return int(mbps * BYTES_PER_MBIT)
