"""What runs the pure cores: the loop (`loop`), named tasks (`tasks`), signals, children that die with us (`parent`).

inputs post events into `Loop`; it alone calls `core.handle` and gives each effect to the output that is registered
for its type. `tordriver` is the one place that talks to a Tor control port through stem;
`torkeeper` keeps a Tor client running with it, and `toroutput` is that for the coordinator and the measurer.
"""
