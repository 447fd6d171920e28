"""FlashFlow: measures the forwarding capacity of Tor relays.

`model` is shared by all; `wire`, `orlink` and `torctl` are sans-I/O protocols; `shell` runs the pure cores;
`torclient` and `relay` are processes of their own; `cli` starts everything. See docs/architecture.md.
"""

__version__ = "0.1.0"
