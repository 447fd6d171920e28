"""The bulk processes: TLS connections to relays, link handshakes, traffic, all non-blocking in one selector loop.

`loop` is the process: the control socket (EOF ends it) and all links. `tls` moves bytes, `link` takes a connection to a
circuit with keys (in loop mode on to the far end), `circuit` sends and checks cells on one, `share` runs this process'
part of a measurement, `coordlink` is the coordinator's own circuit. What is pure of it lives in
`flashflow.torclient.core`.
"""
