"""`flashflow simulate`: the coordinator's real core on a virtual clock, with measurers and relays that are played.

consensus.py reads the relays; settings.py has what a user chooses; world.py plays everything around the core, without
traffic and without waiting; figures.py says what came of it, beside the least time that any schedule needs; run.py
joins them.
"""
