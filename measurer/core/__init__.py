"""The measurer's decisions, pure: `handle.MeasurerCore` takes `events` (and torctl's) and gives `effects`.

`measurement` is the phase table with its deadlines, `state` what is known, `checks` the measurer's own limits;
`on_coordinator`, `on_tor`, `on_far_end` and `on_time` hold the handlers by where an event comes from; `finish` begins
and ends measurements.
"""
