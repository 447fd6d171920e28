"""Sans-I/O wire between coordinator and measurer: `framing` (frames), `messages` (what is said), `session` (what it goes by is in `rules`).

Bytes from TLS -> `Session.receive` -> `framing.FrameReader` -> `messages.parse_envelope` -> session events for the
shell (`flashflow/shell/sessions.py`); `Session.send` -> `outbox.Outbox` -> `Session.data_to_send` -> bytes for TLS.
Formats byte by byte: docs/protocol.md.
"""
