"""`make accuracy`: FlashFlow's results beside what relays and links counted themselves, 100 measurements and more.

- `groups`: what is measured: one deployment after the other, its relays and their limits, alone and together.
- `stages`: the deployments, and what a result of each is compared with.
- `run` measures a group, `cpu` takes the CPU time of every process meanwhile.
- `record` is one measurement, and the file that holds them (benchmarks/accuracy.json).
- `judge` says whether the goal is met; `report` and `plot` fill docs/accuracy.md and docs/accuracy.svg.
"""
