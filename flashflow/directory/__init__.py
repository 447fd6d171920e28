"""What is known of relays, and which of them may be measured.

`files.load_relays` reads a consensus and server descriptors in a process of its own (`parse`, which uses stem): a
consensus of thousands of relays would hold this process for seconds. `filter.RelayFilter` is the operator's list of
relays that may be measured, pure.
"""
