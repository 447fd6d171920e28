"""The reference relay: proposal 316's target side, for local networks, tests and research.

One process and one epoll loop, no asyncio: bulk traffic in whole buffers through non-blocking TLS (pyOpenSSL, because
the standard library cannot show a self-signed client certificate).

- `core/` is pure: who may measure, a measurement's life, token buckets, the cap on background traffic.
- `tls` (one connection), `buffers`, `link` (handshake, then cells), `circuits` (what each cell does),
  `echo` (whole runs of cells through a hop's keys).
- `lanes` shares reading and writing fairly between links, as fast as the token buckets allow.
- `counting` counts cell bytes on the relay's own sockets, apart from all the rest: the ground truth of the demo.
- `server` owns sockets and links, gives events to the core and carries out its effects; `settings` and `identity` are
  what it starts with.
"""
