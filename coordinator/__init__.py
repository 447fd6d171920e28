"""The coordinator: decides when which relay is measured, adds up the reports, publishes the v3bw file.

inputs/  ctrl connections, measurers' sessions, tor events, signals  ->  events
core/    State and its handlers: pure                                ->  effects
outputs/ Tor client, measurers, ctrl replies, store, v3bw file
app.py   wires them together on one loop
"""
