"""`flashflow torclient`: FlashFlow's own Tor client process.

Behind, a Tor control port on a Unix socket (`inputs/control`, grammar in `flashflow.torctl`). In front, worker processes
(`workers/`) that speak Tor's OR link protocol to relays; `outputs/workers` starts them and talks to them in frames.
Between the two `core/`, a pure state machine: commands and what workers say come in as events; replies, asynchronous
events and messages to workers go out as effects. `app` puts them together.
"""
