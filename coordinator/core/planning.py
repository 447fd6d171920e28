"""The plan of a period: which relays are still to be measured in it, and when; what a restart takes up again.

A relay has a slot, or it waits (offline, or no slot has room), or it is done for the period. Its slot is given up when
its measurement is begun, and it gets another one if that ends without a result that counts.
"""

from dataclasses import replace

from coordinator.core import effects as do
from coordinator.core.effects import Effect
from coordinator.core.estimate import candidates, estimates, usual_bytes
from coordinator.core.hosts import groups_of, join_group
from coordinator.core.kept import mark
from coordinator.core.measurement import Measurement
from coordinator.core.schedule import Candidate, Placement, Schedule, Slots
from coordinator.core.seeds import period_seed
from coordinator.core.state import Period, State, refusal
from flashflow.model.clock import Now
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import Fingerprint
from flashflow.model.network import ConsensusHeader
from flashflow.model.relay import RelayInfo
from flashflow.model.results import MeasurementRecord

DAY_S = 86400
SHARED_RANDOM_BYTES = 32
SET_BACK_S = 7200
"""A clock that is set back so far, or by a period, comes to time that was used already."""
ALLOWANCE = 2
"""Measurements of a relay that may be begun in a period, whatever becomes of them; a relay admits no more."""


# --- what a relay is to be loaded with ---


def estimate_all(state: State) -> None:
    """Every relay's estimate, from what is known now."""
    modes = {fp: rule.mode for fp, rule in state.rules.items()}
    relays = state.relays.values()
    state.usual_bytes = usual_bytes(relays)
    state.estimates = estimates(relays, state.results, modes, state.raised, state.usual_bytes)


def estimate_again(state: State, fingerprint: Fingerprint) -> None:
    """One relay's estimate, after a result of it."""
    relay, rule = state.relays.get(fingerprint), state.rules.get(fingerprint)
    if relay is not None and rule is not None:
        modes = {fingerprint: rule.mode}
        state.estimates |= estimates([relay], state.results, modes, state.raised, state.usual_bytes)


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
        raised = max(record.result_bytes, 2 * meas.estimate.rate_bytes)
        known = state.estimates.get(fingerprint)
        if known is None or raised > known.rate_bytes:  # more may be known by now
            state.raised[fingerprint] = raised
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
    elif _has_a_place(state, fingerprint):
        return  # it was given up, and stored after all
    elif state.period.schedule is not None and is_eligible(state, fingerprint):
        place(state, _candidates(state, [fingerprint])[0], slot_of(state, now.utc_s) + 1)
    else:
        wait(state, fingerprint)


# --- periods ---


def begin_of_period(state: State, now: Now) -> None:
    """At a period's first slot: everyone is due again, first of all who had no slot in the last one.

    A clock that was set back into the last period begins nothing: slots of it were used already. What still runs
    belongs to the last period, and nothing follows from it in this one.
    """
    length_s = state.params.period_s
    start = now.utc_s - now.utc_s % length_s
    if 0 <= state.period.start_utc_s - start <= max(length_s, SET_BACK_S):
        return
    due_since = [fp for fp in state.period.due() if fp not in state.period.runs]
    state.period = Period(start, left_over=dict.fromkeys(due_since))
    for meas in [*state.measurements.values(), *state.given_up.values()]:
        meas.scheduled = False
    state.unsaved = state.new_plan = True


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
        effects = _change_team(state, period.schedule, team, slot)
    period.team = team
    return [*effects, *_catch_up(state, slot)]


def _change_team(state: State, schedule: Schedule, team: dict[str, int], slot: int) -> list[Effect]:
    """Another team from `slot` on; those who waited for room may have it now."""
    waiting = [fp for fp in state.period.waiting if is_eligible(state, fp) and may_run(state, fp)]
    schedule.unplaced = _candidates(state, waiting)
    moved = schedule.change_team(team, slot)
    for fingerprint in waiting:
        del state.period.waiting[fingerprint]
    state.new_plan = True  # who stays may have another rate or crew
    _wait_for_room(state, schedule)
    return [do.info(f"the team changed: {len(moved)} relays had to leave their slot")] if moved else []


def _wait_for_room(state: State, schedule: Schedule) -> None:
    """Who found no slot waits for one."""
    for candidate in schedule.unplaced:
        wait(state, candidate.fingerprint)
    schedule.unplaced = []


def _build(state: State, team: dict[str, int], slot: int) -> list[Effect]:
    period = state.period
    effects = _choose_seed(state) if not period.seed else []
    due = [
        fp for fp in state.relays if is_eligible(state, fp) and fp not in period.done and may_run(state, fp)
    ]
    period.waiting = dict.fromkeys(fp for fp, relay in state.relays.items() if is_offline(state, relay))
    period.groups = groups_of(state, due)
    wanted = _candidates(state, due)
    schedule = period.schedule = _schedule(state, slot)
    schedule.build([one for one in wanted if one.fingerprint in period.left_over], team)
    schedule.unplaced += [one for one in wanted if one.fingerprint not in period.left_over]
    schedule.place_unplaced(slot)
    state.new_plan = True
    told = _told(schedule, len(due))
    _wait_for_room(state, schedule)
    return [*effects, told]


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
        text += f"; {len(schedule.split_groups)} groups of co-located relays take more than one slot"
    return do.info(text)


def _choose_seed(state: State) -> list[Effect]:
    """From the network's shared random value; a young network has none, which a value of our own replaces.

    Deployments that share the secret would each draw another one, and collide: they go by the secret alone.
    """
    effects: list[Effect] = []
    value = shared_random(state.header, state.period.start_utc_s)
    if value is None and state.params.deployments > 1:
        value = bytes(SHARED_RANDOM_BYTES)
        effects = [do.info("the consensus has no shared random value: the schedule goes by the secret alone")]
    if value is None:
        if not state.stand_in:
            state.stand_in = state.draw.take("stand-in for the shared random value", SHARED_RANDOM_BYTES)
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


# --- what comes after the schedule was built ---


def place(state: State, candidate: Candidate, from_slot: int) -> Placement | None:
    """The first slot with room, before it that of those whose host it shares; a relay that gets none waits."""
    schedule = state.period.schedule
    assert schedule is not None  # those who call know of slots
    join_group(state, candidate.fingerprint)
    candidate = replace(candidate, group=state.period.groups.get(candidate.fingerprint))
    found = schedule.place_next(candidate, max(0, from_slot))
    if found is None:
        wait(state, candidate.fingerprint)
    else:
        state.period.waiting.pop(candidate.fingerprint, None)
        mark(state, candidate.fingerprint)
    return found


def offer(state: State, fingerprint: Fingerprint, now: Now) -> str:
    """A relay is new in the consensus, or in it again: what becomes of it."""
    period, schedule = state.period, state.period.schedule
    if not is_eligible(state, fingerprint):
        return "it may not be measured, or is not running"
    if fingerprint in period.done or not may_run(state, fingerprint):
        return "it is done for this period"
    if _is_at_it(state, fingerprint):
        return "it is being measured"
    if schedule is None:
        if period.stored and fingerprint not in period.stored:
            wait(state, fingerprint)
        return "it gets a slot at the begin of the next one"
    if not schedule.of(fingerprint):
        place(state, _candidates(state, [fingerprint])[0], slot_of(state, now.utc_s) + 1)
    placements = schedule.of(fingerprint)
    return f"slot {placements[0].slot}" if placements else "no slot has room for it"


def _has_a_place(state: State, fingerprint: Fingerprint) -> bool:
    """Whether it has a slot, waits for one, or its slot has come."""
    period = state.period
    placed = period.schedule is not None and bool(period.schedule.of(fingerprint))
    known = placed or fingerprint in period.waiting or fingerprint in period.stored
    return known or _is_at_it(state, fingerprint)


def _is_at_it(state: State, fingerprint: Fingerprint) -> bool:
    """Whether its slot has come, and its measurement has not ended."""
    queued = any(one.scheduled and one.fingerprint == fingerprint for one in state.queue)
    in_work = state.measurements.values()
    return queued or any(meas.scheduled and meas.relay.fingerprint == fingerprint for meas in in_work)


def forget(state: State, fingerprint: Fingerprint) -> None:
    """A relay that is gone has no slot any more; what was done in the period stays known."""
    if state.period.schedule is not None and state.period.schedule.remove(fingerprint):
        mark(state, fingerprint)
    if fingerprint in state.period.waiting or fingerprint in state.period.stored:
        state.period.waiting.pop(fingerprint, None)
        state.period.stored.pop(fingerprint, None)
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
        mark(state, fingerprint)
    ready = []
    for fingerprint in [*late, *state.period.waiting]:
        if not may_run(state, fingerprint):
            done_with(state, fingerprint)
        elif is_eligible(state, fingerprint):
            ready.append(fingerprint)
        else:
            wait(state, fingerprint)
    _place_all(state, ready, slot)
    return [do.info(f"{len(late)} relays missed their slot: they get the next one with room")] if late else []


def _place_all(state: State, fingerprints: list[Fingerprint], slot: int) -> None:
    """One after the other; what needs no less than another that found no room is not tried."""
    too_much = None
    for candidate in _candidates(state, fingerprints):
        if too_much is not None and candidate.rate_bytes >= too_much:
            wait(state, candidate.fingerprint)
        elif place(state, candidate, slot) is None and state.params.deployments == 1:
            too_much = candidate.rate_bytes


def wait(state: State, fingerprint: Fingerprint) -> None:
    """It has no slot for now."""
    if fingerprint not in state.period.waiting:
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


def take_back_run(state: State, fingerprint: Fingerprint) -> None:
    """Its measurement did not begin after all."""
    if state.period.runs.get(fingerprint, 0):
        state.period.runs[fingerprint] -= 1
        mark(state, fingerprint)


def done_with(state: State, fingerprint: Fingerprint) -> None:
    """Nothing more in this period."""
    forget(state, fingerprint)
    state.period.done[fingerprint] = None
    mark(state, fingerprint)


def _take_up(state: State, team: dict[str, int], slot: int) -> list[Effect]:
    period = state.period
    placements = [
        Placement(row.fingerprint, row.slot, row.rate_bytes, row.wanted_bytes, row.group, row.crew)
        for row in period.stored.values()
        if row.slot is not None and row.fingerprint in state.relays
    ]
    period.groups = {p.fingerprint: p.group for p in placements if p.group is not None}
    period.schedule = Schedule.restore(_schedule(state, 0).slots, placements, team, slot)
    _wait_for_room(state, period.schedule)  # the team may be smaller by now
    period.stored = {}
    state.new_plan = True
    return [do.info(f"the schedule goes on with {len(placements)} relays that have a slot")]
