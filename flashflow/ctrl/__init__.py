"""The client of the coordinator's control socket.

`access` finds address and cookie, `protocol` reads the coordinator's lines, `client` speaks with it over a blocking
socket, `show` turns answers into tables (plain text where there is no terminal), `progress` follows one measurement.
The line protocol is in docs/protocol.md, so that `nc` works too.
"""
