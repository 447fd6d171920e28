"""The plan of a period: which relays are still to be measured in it, and when; what a restart takes up again.

A relay has a slot, or it waits (offline, or no slot has room), or it is done for the period. Its slot is given up when
its measurement is begun, and it gets another one if that ends without a result that counts.
"""

from dataclasses import replace

from coordinator.core import colocation
from coordinator.core import effects as do
from coordinator.core.effects import Effect
from coordinator.core.estimate import candidates, estimates
from coordinator.core.measurement import Measurement
from coordinator.core.schedule import Candidate, Placement, Schedule, Slots
from coordinator.core.seeds import period_seed
from coordinator.core.state import Period, State, refusal
from flashflow.model.clock import Now
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint
from flashflow.model.network import ConsensusHeader
from flashflow.model.plan import PlanRow
from flashflow.model.relay import RelayInfo
from flashflow.model.results import MeasurementRecord

DAY_S = 86400
ALLOWANCE = 2
"""Measurements of a relay that may be begun in a period, whatever becomes of them; a relay admits no more."""


# --- what a relay is to be loaded with ---


def estimate_all(state: State) -> None:
    """Every relay's estimate, from what is known now."""
    modes = {fp: rule.mode for fp, rule in state.rules.items()}
    state.estimates = estimates(state.relays.values(), state.results, modes, state.raised)


def estimate_again(state: State, fingerprint: Fingerprint) -> None:
    """One relay's estimate, after a result of it. (Without a result of ours it needs those of all others.)"""
    relay, rule = state.relays.get(fingerprint), state.rules.get(fingerprint)
    if relay is not None and rule is not None:
        modes = {fingerprint: rule.mode}
        state.estimates |= estimates([relay], state.results, modes, state.raised)


def _candidates(state: State, fingerprints: list[Fingerprint]) -> list[Candidate]:
    known = {fingerprint: state.estimates[fingerprint] for fingerprint in fingerprints}
    limits = {fp: limit for fp in known if (limit := state.rules[fp].rate_limit_bytes) is not None}
    found = candidates(known, limits, (), state.params)
    return [replace(candidate, group=state.period.groups.get(candidate.fingerprint)) for candidate in found]


def is_limited(state: State, placement: Placement) -> bool:
    """Whether there is no more to load the relay with, of the team or by the filter's limit for it."""
    limit = state.rules[placement.fingerprint].rate_limit_bytes
    return placement.capped or (limit is not None and placement.rate_bytes >= limit)


def ended(state: State, meas: Measurement, record: MeasurementRecord, now: Now) -> None:
    """A measurement is over: the estimate follows an accepted result, and doubles with one that was not."""
    fingerprint = record.fingerprint
    if record.accepted:
        if state.raised.pop(fingerprint, None) is not None:
            mark(state, fingerprint)
    elif record.result_bytes is not None and not record.team_limited:
        state.raised[fingerprint] = max(record.result_bytes, 2 * meas.estimate.rate_bytes)
        mark(state, fingerprint)
    estimate_again(state, fingerprint)
    if meas.scheduled:
        _plan_again(state, record, now)


def _plan_again(state: State, record: MeasurementRecord, now: Now) -> None:
    """Another slot in this period, unless the result counts, the relay is to blame, or it had its share."""
    final = record.accepted or record.team_limited
    failed_itself = record.failure is not None and record.failure.kind is ErrorKind.PEER
    fingerprint = record.fingerprint
    if final or failed_itself or not may_run(state, fingerprint):
        done_with(state, fingerprint)
    elif state.period.schedule is not None and is_eligible(state, fingerprint):
        place(state, fingerprint, slot_of(state, now.utc_s) + 1)
    else:
        wait(state, fingerprint)


# --- periods ---


def begin_of_period(state: State, now: Now) -> list[Effect]:
    """At a period's first slot: everyone is due again, first of all who had no slot in the last one.

    A clock that was set back into the last period begins nothing: slots of it were used already.
    """
    length_s = state.params.period_s
    start = now.utc_s - now.utc_s % length_s
    if start == state.period.start_utc_s or start == state.period.start_utc_s - length_s:
        return []
    due_since = [fp for fp in state.period.due() if fp not in state.period.runs]
    state.period = Period(start, left_over=dict.fromkeys(due_since))
    state.unsaved = state.new_plan = True
    return []


def slot_of(state: State, utc_s: float) -> int:
    """The period's slot at that time."""
    return int((utc_s - state.period.start_utc_s) // state.params.slot_s)


def slot_start(state: State, slot: int) -> float:
    """When a slot of the period begins, Unix time."""
    return state.period.start_utc_s + slot * state.params.slot_s


def make_ready(state: State, slot: int) -> list[Effect]:
    """The schedule as it is to be from `slot` on: built, taken up from the store, or for another team."""
    period, team = state.period, {one.name: one.capacity_bytes for one in state.connected_team()}
    effects: list[Effect] = []
    if period.schedule is None:
        effects = _take_up(state, team, slot) if period.stored else _build(state, team, slot)
    elif team != period.team:
        moved = period.schedule.change_team(team, slot)
        mark(state, *(placement.fingerprint for placement in moved))
        effects = [do.info(f"the team changed: {len(moved)} relays have another slot")] if moved else []
    period.team = team
    return [*effects, *_catch_up(state, slot)]


def _build(state: State, team: dict[str, int], slot: int) -> list[Effect]:
    period = state.period
    effects = _choose_seed(state) if not period.seed else []
    due = [
        fp for fp in state.relays if is_eligible(state, fp) and fp not in period.done and may_run(state, fp)
    ]
    period.waiting = dict.fromkeys(fp for fp, relay in state.relays.items() if is_offline(state, relay))
    period.groups = _groups(state, due)
    wanted = _candidates(state, due)
    schedule = period.schedule = _schedule(state, slot)
    schedule.build([one for one in wanted if one.fingerprint in period.left_over], team)
    schedule.unplaced += [one for one in wanted if one.fingerprint not in period.left_over]
    schedule.place_unplaced(slot)
    state.new_plan = True
    return [*effects, _told(schedule, len(due))]


def _schedule(state: State, slot: int) -> Schedule:
    params = state.params
    n_slots = params.period_s // params.slot_s
    where = {"deployment": params.deployment, "deployments": params.deployments, "allowance": ALLOWANCE}
    return Schedule(Slots(n_slots, state.period.seed, slot, params.strategy, **where))


def _told(schedule: Schedule, due: int) -> Effect:
    slots = len({placement.slot for placement in schedule.placements()})
    text = f"a schedule for {due} relays in {slots} slots"
    if schedule.unplaced:
        text += f"; {len(schedule.unplaced)} relays have no slot, for the team is too small for this period"
    if schedule.split_groups:
        text += f"; {len(schedule.split_groups)} groups of co-located relays are larger than a slot"
    return do.info(text)


def _choose_seed(state: State) -> list[Effect]:
    """From the network's shared random value; a young network has none, which a value of our own replaces."""
    effects: list[Effect] = []
    value = shared_random(state.header, state.period.start_utc_s)
    if value is None:
        if not state.stand_in:
            state.stand_in = state.draw.take("stand-in for the shared random value", 32)
        value = state.stand_in
        effects = [do.info("the consensus has no shared random value: the schedule goes by a stored one")]
    index = int(state.period.start_utc_s // state.params.period_s)
    state.period.seed = period_seed(state.secret, value, index)
    state.unsaved = True
    return effects


def shared_random(header: ConsensusHeader, period_start_utc_s: float) -> bytes | None:
    """The value that was current just before 00:00 UTC of the period's day, in whichever consensus it is seen.

    (srv-spec: the value changes with the consensus of 00:00, which lists the one before as the previous one.)
    """
    midnight = period_start_utc_s - period_start_utc_s % DAY_S
    return (
        header.shared_random_current if header.valid_after_utc_s < midnight else header.shared_random_previous
    )


def _groups(state: State, due: list[Fingerprint]) -> dict[Fingerprint, int]:
    relays = [state.relays[fingerprint] for fingerprint in due]
    found = colocation.groups(relays, state.params.colocation) if state.params.colocation else ()
    return {member: number for number, members in enumerate(found) for member in members}


# --- what comes after the schedule was built ---


def place(state: State, fingerprint: Fingerprint, from_slot: int) -> Placement | None:
    """The first slot with room; a relay that gets none waits."""
    schedule = state.period.schedule
    assert schedule is not None  # those who call know of slots
    found = schedule.place_next(_candidates(state, [fingerprint])[0], max(0, from_slot))
    if found is None:
        wait(state, fingerprint)
    else:
        state.period.waiting.pop(fingerprint, None)
        mark(state, fingerprint)
    return found


def offer(state: State, fingerprint: Fingerprint, now: Now) -> str:
    """A relay is new in the consensus, or in it again: what becomes of it."""
    period, schedule = state.period, state.period.schedule
    if not is_eligible(state, fingerprint):
        return "it may not be measured, or is not running"
    if schedule is None:
        return "it is placed with all others when the schedule is built"
    if fingerprint in period.done or not may_run(state, fingerprint):
        return "it is done for this period"
    if not schedule.of(fingerprint):
        _join_group(state, fingerprint)
        place(state, fingerprint, slot_of(state, now.utc_s) + 1)
    placements = schedule.of(fingerprint)
    return f"slot {placements[0].slot}" if placements else "no slot has room for it"


def _join_group(state: State, fingerprint: Fingerprint) -> None:
    """It is measured together with those that it shares a host with, if they have a slot together."""
    if not state.params.colocation or fingerprint in state.period.groups:
        return
    known = state.period.groups
    for members in colocation.groups(state.relays.values(), state.params.colocation):
        if fingerprint in members:
            number = next((known[member] for member in members if member in known), None)
            if number is not None:
                known[fingerprint] = number


def forget(state: State, fingerprint: Fingerprint) -> None:
    """A relay that is gone has no slot any more; what was done in the period stays known."""
    if state.period.schedule is not None and state.period.schedule.remove(fingerprint):
        mark(state, fingerprint)
    if state.period.waiting.pop(fingerprint, fingerprint) is None:
        mark(state, fingerprint)


def give_up_slot(state: State, fingerprint: Fingerprint) -> None:
    """Its slot has come."""
    assert state.period.schedule is not None
    state.period.schedule.remove(fingerprint)
    mark(state, fingerprint)


def _catch_up(state: State, slot: int) -> list[Effect]:
    """Whose slot passed without a measurement, and who waits, gets the first slot with room from `slot` on."""
    schedule = state.period.schedule
    if schedule is None:
        return []
    late = []
    for placement in schedule.placements():
        if placement.slot >= slot:
            break
        late.append(placement.fingerprint)
    for fingerprint in late:
        schedule.remove(fingerprint)
    for fingerprint in [*late, *state.period.waiting]:
        if not may_run(state, fingerprint):
            done_with(state, fingerprint)
        elif is_eligible(state, fingerprint):
            place(state, fingerprint, slot)
        elif fingerprint not in state.period.waiting:
            wait(state, fingerprint)
    return [do.info(f"{len(late)} relays missed their slot: they get the next one with room")] if late else []


def wait(state: State, fingerprint: Fingerprint) -> None:
    """It has no slot for now."""
    state.period.waiting[fingerprint] = None
    mark(state, fingerprint)


def is_offline(state: State, relay: RelayInfo) -> bool:
    """Whether it would be measured if it ran."""
    return not relay.running and refusal(state, relay) is None


def is_eligible(state: State, fingerprint: Fingerprint) -> bool:
    """Whether it is in the consensus, runs, has keys, and the filter allows it."""
    relay = state.relays.get(fingerprint)
    return relay is not None and relay.running and refusal(state, relay) is None


def may_run(state: State, fingerprint: Fingerprint) -> bool:
    """Whether the allowance of the period leaves a measurement."""
    return state.period.runs.get(fingerprint, 0) < ALLOWANCE


def count_run(state: State, fingerprint: Fingerprint) -> None:
    """A measurement of it begins."""
    state.period.runs[fingerprint] = state.period.runs.get(fingerprint, 0) + 1
    mark(state, fingerprint)


def done_with(state: State, fingerprint: Fingerprint) -> None:
    """Nothing more in this period."""
    state.period.done[fingerprint] = None
    state.period.waiting.pop(fingerprint, None)
    mark(state, fingerprint)


# --- what is stored ---


def mark(state: State, *fingerprints: Fingerprint) -> None:
    """What is planned for them has changed and is to be stored."""
    state.changed_plan |= dict.fromkeys(fingerprints)


def save(state: State) -> list[Effect]:
    """The changes since the last time."""
    if state.new_plan:
        period = state.period
        placed = [p.fingerprint for p in period.schedule.placements()] if period.schedule else []
        rows = dict.fromkeys([*placed, *period.due(), *period.runs, *period.done, *state.raised])
        effects: list[Effect] = [do.SavePlan(tuple(_row(state, fp) for fp in rows), whole=True)]
    elif state.changed_plan:
        effects = [do.SavePlan(tuple(_row(state, fp) for fp in state.changed_plan), whole=False)]
    else:
        return []
    state.new_plan = False
    state.changed_plan = {}
    return effects


def _row(state: State, fingerprint: Fingerprint) -> PlanRow:
    period = state.period
    placements = period.schedule.of(fingerprint) if period.schedule else ()
    at = placements[0] if placements else None
    return PlanRow(
        fingerprint,
        slot=at.slot if at else None,
        rate_bytes=at.rate_bytes if at else 0,
        wanted_bytes=at.wanted_bytes if at else 0,
        group=at.group if at else None,
        crew=at.crew if at else 0,
        runs=period.runs.get(fingerprint, 0),
        done=fingerprint in period.done,
        raised_bytes=state.raised.get(fingerprint, 0),
    )


def restore(state: State, rows: tuple[PlanRow, ...]) -> None:
    """What the last run left; slots are taken up as soon as there is a team. The period's start and seed are known."""
    period = state.period
    period.stored = tuple(row for row in rows if row.slot is not None)
    period.runs = {row.fingerprint: row.runs for row in rows if row.runs}
    period.done = {row.fingerprint: None for row in rows if row.done}
    period.waiting = {row.fingerprint: None for row in rows if row.slot is None and not row.done}
    state.raised = {row.fingerprint: row.raised_bytes for row in rows if row.raised_bytes}


def _take_up(state: State, team: dict[str, int], slot: int) -> list[Effect]:
    period = state.period
    placements = [
        Placement(row.fingerprint, row.slot, row.rate_bytes, row.wanted_bytes, row.group, row.crew)
        for row in period.stored
        if row.slot is not None
    ]
    period.groups = {p.fingerprint: p.group for p in placements if p.group is not None}
    period.schedule = Schedule.restore(_schedule(state, 0).slots, placements, team, slot)
    period.stored = ()
    state.new_plan = True
    return [do.info(f"the schedule goes on with {len(placements)} relays that have a slot")]
