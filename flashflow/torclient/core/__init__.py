"""The pure part of torclient.

`events` and `effects` are what goes in and out of `state.TorClientCore`; `measr` and `coord` are the two kinds of
measurement with their phase tables; `messages` is what the control process and its workers tell each other.
`limits` is how fast circuits of loop measurements may be opened. `passage` (what a payload goes through until it is
back), `sampling`, `stream`, `pacing` and `seconds` are what a worker does with traffic, without its sockets.
"""
