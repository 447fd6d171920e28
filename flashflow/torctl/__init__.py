"""Tor's control protocol, sans I/O, with FlashFlow's additions.

- `lines`: cuts a byte stream into lines, capped. `replies`: builds the server's replies.
- `session`: the server side of one connection: authentication, SETEVENTS, what stem's Controller asks for.
- `commands`: COORD_START_MEAS, MEASR_START_MEAS, FF_STOP: built by a controller, parsed by `flashflow torclient`.
- `events`: CIRC and FF_MEAS events, both ways. `reasons`: what a REASON means, and whose fault it is.
- `client`: what a core says to its Tor client and hears of it, besides these events.
- `stem_events`: makes stem know FF_MEAS events; the only module here that imports stem.

What a peer sends raises only `CommandError` or `EventError`, both PeerError.
"""
