"""What is known of relays, and which of them may be measured.

A consensus with its server descriptors comes from files (`files.load_consensus`) or from a running tor
(`files.load_consensus_from_tor`), in both cases read by a process of its own (`parse`, with `entries` for the items and
`fetch` for tor's control port; all of stem's parsing is there): thousands of relays would hold this process for
seconds. `tor.TorDirectory` keeps such a tor running, or attaches to one, and reads again when it has news; `launch`
starts it so that it ends with us. `filter.RelayFilter` is the operator's list of relays that may be measured, pure.
"""
