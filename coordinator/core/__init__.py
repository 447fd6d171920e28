"""The coordinator's pure core: `Coordinator.handle(event, now) -> effects` (handle.py).

events -> on_tor, on_measurer, on_ctrl, on_slot (handlers by source) -> measurement (the phase table) -> effects
state.py holds what is known; assign.py starts what fits; finish.py ends; aggregate.py does the sums; views.py shows.
planning.py has the period's plan: estimate.py, colocation.py and seeds.py feed schedule.py, which packs with packing.py.
"""
