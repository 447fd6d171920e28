"""How far an active measurement is: which reports are in, what watchers are shown."""

from coordinator.core.aggregate import second_total
from coordinator.core.effects import Effect
from coordinator.core.finish import tell_watchers
from coordinator.core.measurement import Measurement
from coordinator.core.state import State


def has_all_reports(state: State, meas: Measurement) -> bool:
    """Whether every measurer that goes on has given its last report, and in echo mode the relay (or it has ended)."""
    last = state.params.duration_s
    if any(last not in share.reports for share in meas.unfinished):
        return False
    return last in meas.background or meas.relay_ended or meas.mode == "loop"


def show_seconds(state: State, meas: Measurement) -> list[Effect]:
    """EVENT lines for the seconds that everybody has reported since the last time."""
    effects: list[Effect] = []
    while _is_known(meas, meas.shown_second + 1):
        meas.shown_second += 1
        n = meas.shown_second
        measured = [share.reports[n] for share in meas.shares.values()]
        total = second_total(n, measured, meas.background.get(n), state.params.background_ratio)
        effects += tell_watchers(
            meas,
            {
                "event": "second",
                "meas_id": meas.meas_id,
                "second": n,
                "measured_bytes": total.measured_bytes,
                "background_bytes": total.background_bytes,
                "total_bytes": total.total_bytes,
            },
        )
    return effects


def _is_known(meas: Measurement, second: int) -> bool:
    told = second in meas.background or meas.relay_ended or meas.mode == "loop"
    return told and all(second in share.reports for share in meas.shares.values())
