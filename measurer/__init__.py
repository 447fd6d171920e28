"""The measurer's service: one session with the coordinator, one Tor client, any number of measurements.

`inputs` (session and Tor client -> events) -> `core` (pure: what to do) -> `outputs` (effects -> session, Tor client).
`app` puts them together on the one loop of `flashflow/shell/loop.py`.
"""
