"""What a restart has to know of the plan: changes are saved after each event, all of one event or none of them."""

from coordinator.core import effects as do
from coordinator.core.effects import Effect
from coordinator.core.events import Progress
from coordinator.core.state import Period, State
from flashflow.model.ids import Fingerprint
from flashflow.model.plan import PlanRow


def mark(state: State, *fingerprints: Fingerprint) -> None:
    """What is planned for them has changed and is to be stored."""
    state.changed_plan |= dict.fromkeys(fingerprints)


def save(state: State) -> list[Effect]:
    """The changes since the last time."""
    if not (state.unsaved or state.new_plan or state.changed_plan):
        return []
    whole, period = state.new_plan, state.period
    everyone = [*period.due(), *period.runs, *period.done, *state.raised] if whole else state.changed_plan
    rows = tuple(_row(state, fingerprint) for fingerprint in dict.fromkeys(everyone))
    state.unsaved = state.new_plan = False
    state.changed_plan = {}
    return [do.SaveProgress(state.progress(), rows, whole)]


def _row(state: State, fingerprint: Fingerprint) -> PlanRow:
    period = state.period
    placements = period.schedule.of(fingerprint) if period.schedule else ()
    at = placements[0] if placements else period.stored.get(fingerprint)
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


def restore(state: State, progress: Progress, rows: tuple[PlanRow, ...]) -> None:
    """What the last run left. Its slots are taken up as soon as there is a team, unless slots are others by now."""
    state.stand_in = bytes.fromhex(progress.stand_in)
    state.raised = {row.fingerprint: row.raised_bytes for row in rows if row.raised_bytes}
    state.new_plan = progress.layout != state.params.layout
    if progress.layout[:1] != state.params.layout[:1]:
        return  # another length of the period: it begins anew
    period = state.period = Period(progress.period_utc_s, bytes.fromhex(progress.seed))
    period.runs = {row.fingerprint: row.runs for row in rows if row.runs}
    period.done = {row.fingerprint: None for row in rows if row.done}
    if not state.new_plan:
        period.stored = {row.fingerprint: row for row in rows if row.slot is not None}
        period.waiting = {row.fingerprint: None for row in rows if row.slot is None and not row.done}
