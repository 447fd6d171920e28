"""How a slot is divided: set-up, warm-up, duration, drain."""

SETUP_S = 15
"""Longest set-up of a measurement, seconds: launch, params, connect, start."""
DRAIN_S = 5
"""How long late reports are waited for after the last second."""
MAX_MEASUREMENT_S = 600
"""Longest measurement that a relay can be told of, warm-up included (proposal 316, meas_duration)."""
