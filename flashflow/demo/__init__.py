"""`flashflow demo`: a small deployment on this machine, measured from start to end.

`plan` is what the command line asks for, `child` one process of the deployment, `deployment` all of them with their
folders and configuration, `measure` asks the coordinator for one relay after the other, `report` compares its figures
with the relays' own counts and judges them.

The coordinator, the measurers and their Tor clients never hear of the relays' configured rates.
"""
