"""Local networks for demo and tests: consensus, relay processes, their counts, background traffic.

- `consensus` assembles a dir-spec consensus from the relays' descriptors.
- `relays` starts a reference relay (or one that cheats) as a process.
- `counts` reads what a relay counted on its own sockets.
- `background` is a client that keeps a relay busy: `python -m flashflow.testnet.background`.
- `tornet` is a private network of stock tor: `tornet_node` one tor, `tornet_keys` an authority's keys,
  `tornet_documents` what an authority serves, `tornet_bw` a recorder of what each tor counts.
"""
