"""The pure part of torclient.

`events` and `effects` are what goes in and out of `state.TorClientCore`; `measr` and `coord` are the two kinds of
measurement with their phase tables; `messages` is what the control process and its workers tell each other.
`sampling`, `stream`, `pacing` and `seconds` are what a worker does with echo traffic, without its sockets.
"""
