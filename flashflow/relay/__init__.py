"""The reference relay (proposal 316's target side), and the far end of loop measurements.

One process and one epoll loop, no asyncio: bulk traffic in whole buffers through non-blocking TLS (pyOpenSSL, because
the standard library cannot show a self-signed client certificate).

- `core/` is pure: who may measure, a measurement's life, token buckets, the cap on background traffic.
- Links of either: `tls` (one connection), `buffers`, `celllink` (handshake, then cells), `table` (circuits made and
  destroyed), `echo` (whole runs of cells through a hop's keys), `lanes` (reading and writing in turn, as fast as the
  token buckets allow), `serving` (sockets, links, signals, the loop).
- The reference relay: `link` and `circuits` (what each cell does), `measuring` (gives events to the core and carries
  out its effects), `counting` (cell bytes on the relay's own sockets, apart from all the rest: the ground truth of the
  demo), `server`; `settings`, `identity` and `accepted` (earlier measurements) are what it starts with.
- The far end: `looping` (every relay cell goes back through both layers of this hop), `farend` (who may connect, and
  where), `identities` (keys of several relays in one file).
"""
