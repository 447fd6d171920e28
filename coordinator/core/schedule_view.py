"""What controllers are shown of the schedule (docs/protocol.md, "Control socket")."""

from typing import Any

from coordinator.core.assign import circuits_of
from coordinator.core.planning import is_eligible, slot_of, slot_start
from coordinator.core.schedule import Placement, Schedule
from coordinator.core.state import State
from flashflow.model.clock import Now
from flashflow.model.relay import RelayInfo

SLOTS_SHOWN = 20
"""Slots with relays that `schedule` shows, the next ones."""


def schedule_view(state: State, schedule: Schedule, now: Now) -> dict[str, Any]:
    """The period at a glance, and its next slots."""
    period = state.period
    placed = [placement.slot for placement in schedule.placements()]
    unplaced = sum(is_eligible(state, fingerprint) for fingerprint in period.waiting)
    return {
        "period_start_utc_s": period.start_utc_s,
        "slot_s": state.params.slot_s,
        "n_slots": schedule.slots.n_slots,
        "slot": slot_of(state, now.utc_s),
        "strategy": schedule.slots.strategy,
        "planned": len(placed),
        "done": len(period.done),
        "waiting": len(period.waiting) - unplaced,
        "unplaced": unplaced,
        "split_groups": [
            {"members": list(group.members), "slots": group.n_slots} for group in schedule.split_groups
        ],
        "slots": [_slot_row(state, schedule, slot) for slot in list(dict.fromkeys(placed))[:SLOTS_SHOWN]],
    }


def slot_view(state: State, schedule: Schedule, slot: int) -> dict[str, Any]:
    """The relays of a slot, with what each measurer is to give."""
    shares = schedule.shares(slot)
    rows = [
        _relay_row(state, placement, shares.get(placement.fingerprint, {}))
        for placement in schedule.in_slot(slot)
    ]
    return {**_slot_row(state, schedule, slot), "measurements": rows}


def relay_view(state: State, schedule: Schedule, relay: RelayInfo) -> dict[str, Any]:
    """What is planned for a relay, and why so much."""
    period, fingerprint = state.period, relay.fingerprint
    estimate = state.estimates[fingerprint]
    placements = [
        {
            "slot": placement.slot,
            "starts_utc_s": slot_start(state, placement.slot),
            **_relay_row(state, placement, schedule.shares(placement.slot).get(fingerprint, {})),
        }
        for placement in schedule.of(fingerprint)
    ]
    return {
        "fingerprint": fingerprint,
        "nickname": relay.nickname,
        "estimate_bytes": estimate.rate_bytes,
        "estimate_is_ours": estimate.ours,
        "begun": period.runs.get(fingerprint, 0),
        "done": fingerprint in period.done,
        "measurements": placements,
    }


def _slot_row(state: State, schedule: Schedule, slot: int) -> dict[str, Any]:
    here = schedule.in_slot(slot)
    return {
        "slot": slot,
        "starts_utc_s": slot_start(state, slot),
        "relays": len(here),
        "rate_bytes": sum(placement.rate_bytes for placement in here),
        "free_bytes": schedule.free_bytes(slot),
    }


def _relay_row(state: State, placement: Placement, shares: dict[str, int]) -> dict[str, Any]:
    relay, rule = state.relays.get(placement.fingerprint), state.rules.get(placement.fingerprint)
    mode = rule.mode if rule else "echo"
    return {
        "fingerprint": placement.fingerprint,
        "nickname": relay.nickname if relay else "-",
        "mode": mode,
        "rate_bytes": placement.rate_bytes,
        "team_limited": placement.capped,
        "measurers": [
            {"name": name, "rate_bytes": rate, "n_circs": circuits_of(state, mode, name, rate, shares)}
            for name, rate in shares.items()
        ],
    }
