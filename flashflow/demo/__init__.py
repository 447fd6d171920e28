"""`flashflow demo`: a small deployment on this machine, measured from start to end.

`child` is one process of a deployment, `team` the coordinator and the measurers, `stage` what every demo does around
its deployment: folders, measuring one relay, showing and writing what was found.

- Reference relays: `plan` is what the command line asks for, `deployment` all processes with their folders, `run` the
  demo, `report` compares results with the relays' own counts and judges them.
- The schedule (`--period`): `period_plan`, `period_deployment`, `period` and `period_report` likewise, for reference
  relays that nobody asks to measure, and that join and leave while the period runs.
- Stock tor (`--tor`): `tor_plan`, `tor_deployment`, `tor` and `tor_report` likewise; `tor_install` gets tor.

The coordinator, the measurers and their Tor clients never hear of the relays' configured rates.
"""
