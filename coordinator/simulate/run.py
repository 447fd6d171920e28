"""A simulation from relays to figures."""

import hashlib
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coordinator.core.colocation import groups
from coordinator.core.estimate import estimates
from coordinator.simulate.figures import figures_of, lower_bound_hours, split_groups
from coordinator.simulate.settings import Settings
from coordinator.simulate.world import World
from flashflow.model.ids import Fingerprint
from flashflow.model.network import Consensus


def simulate(
    network: Consensus, settings: Settings, on_slot: Callable[[int], None] = lambda slot: None
) -> dict[str, Any]:
    """One period of `network`: figures, by their names in JSON. Raises UsageError for the settings."""
    params = settings.params()
    begun_s = time.perf_counter()
    known = {fp: estimate.rate_bytes for fp, estimate in estimates(network.relays, {}, {}, {}).items()}
    team = {f"m{number}": capacity for number, capacity in enumerate(settings.team_bytes, start=1)}
    seed = hashlib.sha256(f"simulation {settings.seed}".encode()).digest()
    world = World(params, network, true_capacities(known, settings), team, seed)
    world.run(on_slot)
    least_hours = lower_bound_hours(
        known.values(), params.allocation_factor, settings.team_bytes, settings.slot_s
    )
    figures = figures_of(world.outcomes, len(known), least_hours, settings.team_bytes, settings.slot_s)
    return {
        **asdict(figures),
        "split_groups": split_groups(world.outcomes, groups(network.relays, settings.colocation)),
        "build_s": round(world.slowest_start_s, 3),
        "run_s": round(time.perf_counter() - begun_s, 1),
        "peak_mb": peak_mb(),
    }


def true_capacities(estimated: Mapping[Fingerprint, int], settings: Settings) -> dict[Fingerprint, int]:
    """What each relay can carry, cell bytes/s: its estimate times exp(N(0, noise)), so that half have more."""
    draws = random.Random(settings.seed)
    return {
        fingerprint: max(1, round(estimated[fingerprint] * math.exp(draws.gauss(0.0, settings.noise))))
        for fingerprint in sorted(estimated)
    }


def peak_mb() -> float:
    """The most memory that this process ever held, MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (kib,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return round(int(kib) * 1024 / 1e6, 1)
