"""What controllers ask: one command a line (docs/protocol.md, "Control socket"). Nothing they say can raise."""

from collections.abc import Callable
from typing import Any

from coordinator.core import effects as do
from coordinator.core.effects import Effect
from coordinator.core.events import CtrlClosed, CtrlSaid, ResultsRead, V3bwWritten
from coordinator.core.finish import drop_request, fail
from coordinator.core.planning import done_with
from coordinator.core.schedule_view import relay_view, schedule_view, slot_view
from coordinator.core.state import Request, State, refusal
from coordinator.core.views import measurers_view, relays_view, result_view, status_view
from flashflow.model.clock import Now
from flashflow.model.errors import ErrorKind
from flashflow.model.ids import MeasId
from flashflow.model.relay import RelayInfo
from flashflow.model.results import Failure

RESULTS_SHOWN = 100
"""Most results that one command shows, the newest."""
QUEUE_LIMIT = 1000
"""Most measurements that may wait."""

Answer = list[Effect] | str
"""Effects, or why the command is refused."""


def on_line(state: State, event: CtrlSaid, now: Now) -> list[Effect]:
    """Run one command; a refused one is answered with the reason."""
    words = event.line.split()
    if not words:
        return [_err(event.conn, "empty command (try help)")]
    command = COMMANDS.get(words[0].lower())
    if command is None:
        return [_err(event.conn, f"unknown command {words[0][:40]!r} (try help)")]
    answer = command(state, event.conn, words[1:], now)
    return [_err(event.conn, answer)] if isinstance(answer, str) else answer


def on_closed(state: State, event: CtrlClosed, now: Now) -> list[Effect]:
    """A controller went away: it watches nothing any more; what it asked for goes on."""
    watching = [meas.watchers for meas in state.measurements.values()]
    for watchers in [*watching, *(request.watchers for request in state.queue)]:
        watchers[:] = [conn for conn in watchers if conn != event.conn]
    state.queries = {query: conn for query, conn in state.queries.items() if conn != event.conn}
    return []


def on_results(state: State, event: ResultsRead, now: Now) -> list[Effect]:
    """Stored results for the controller that asked."""
    conn = state.queries.pop(event.query_id, None)
    if conn is None:
        return []
    if event.error:
        return [_err(conn, event.error)]
    return [do.SendToCtrl(conn, "OK", {"results": [result_view(record) for record in event.records]})]


def on_v3bw(state: State, event: V3bwWritten, now: Now) -> list[Effect]:
    """A v3bw file was written, or there was nothing to write."""
    effects: list[Effect] = []
    if event.path:
        state.v3bw_path = event.path
        effects.append(do.info(f"v3bw file {event.path} with {event.relays} relays"))
    elif event.error:
        effects.append(do.warn(f"no v3bw file: {event.error}"))
    conn = state.queries.pop(event.query_id, None)
    if conn is None:
        return effects
    if event.path:
        return [*effects, do.SendToCtrl(conn, "OK", {"path": event.path, "relays": event.relays})]
    return [*effects, _err(conn, event.error or "no v3bw file: no relay has a recent result")]


def _err(conn: int, reason: str) -> Effect:
    return do.SendToCtrl(conn, "ERR", {"error": reason})


def _measure(state: State, conn: int, args: list[str], now: Now) -> Answer:
    if len(args) not in (1, 2) or args[1:] not in ([], ["wait"]):
        return "measure needs a relay: measure <fingerprint|nickname> [wait]"
    if state.draining:
        return "the coordinator is stopping"
    if not state.relays:
        return f"no relays are known yet ({state.relays_error or 'still loading'})"
    relay = state.find_relay(args[0])
    if relay is None:
        return f"no such relay (or no unique one): {args[0][:60]!r}"
    problem = refusal(state, relay) or _not_now(state, relay)
    if problem:
        return problem
    request = new_request(state, relay, scheduled=False)
    request.watchers += [conn] * len(args[1:])
    state.queue.append(request)
    data = {"meas_id": request.meas_id, "fingerprint": relay.fingerprint, "nickname": relay.nickname}
    return [do.SendToCtrl(conn, "OK", data)]


def new_request(state: State, relay: RelayInfo, *, scheduled: bool) -> Request:
    """A measurement of a relay that refusal() does not refuse."""
    return Request(state.new_meas_id(), relay.fingerprint, state.rules[relay.fingerprint].mode, scheduled)


def _not_now(state: State, relay: RelayInfo) -> str | None:
    if state.rules[relay.fingerprint].mode == "echo" and not state.tor_up:
        return "the coordinator's Tor client is not ready yet"
    if not state.connected_team():
        leaving = any(measurer.connected for measurer in state.team.values())
        return "every measurer is leaving" if leaving else "no measurer is connected"
    if len(state.queue) >= QUEUE_LIMIT:
        return f"{QUEUE_LIMIT} measurements wait already"
    return None


def _cancel(state: State, conn: int, args: list[str], now: Now) -> Answer:
    if len(args) != 1 or not (args[0].isascii() and args[0].isdigit()):
        return "cancel needs a measurement's id: cancel <meas_id>"
    meas_id = MeasId(int(args[0]))
    reason = Failure(ErrorKind.LOCAL, "cancelled by a controller")
    done: Effect = do.SendToCtrl(conn, "OK", {"meas_id": meas_id})
    waiting = [request for request in state.queue if request.meas_id == meas_id]
    if waiting:
        state.queue.remove(waiting[0])
        if waiting[0].scheduled:
            done_with(state, waiting[0].fingerprint)
        return [done, *drop_request(waiting[0], reason)]
    if meas_id not in state.measurements:
        return f"no measurement {meas_id} is in work"
    meas = state.measurements[meas_id]
    effects = fail(state, meas, reason, now)
    if effects and meas.scheduled:
        meas.scheduled = False  # not again in this period: somebody does not want it
        done_with(state, meas.relay.fingerprint)
    return [done, *effects] if effects else f"measurement {meas_id} is being saved already"


def _status(state: State, conn: int, args: list[str], now: Now) -> Answer:
    return [do.SendToCtrl(conn, "OK", status_view(state, now))]


def _measurers(state: State, conn: int, args: list[str], now: Now) -> Answer:
    return [do.ShowMeasurers(conn, measurers_view(state))]


def _relays(state: State, conn: int, args: list[str], now: Now) -> Answer:
    return [do.SendToCtrl(conn, "OK", relays_view(state))]


def _results(state: State, conn: int, args: list[str], now: Now) -> Answer:
    relay = state.find_relay(args[0]) if args else None
    if len(args) > 1 or (args and relay is None):
        return f"no such relay (or no unique one): {' '.join(args)[:60]!r}"
    query_id = state.new_id()
    state.queries[query_id] = conn
    return [do.ReadResults(query_id, relay.fingerprint if relay else None, RESULTS_SHOWN)]


def _v3bw(state: State, conn: int, args: list[str], now: Now) -> Answer:
    query_id = state.new_id()
    state.queries[query_id] = conn
    return [do.WriteV3bw(query_id, dict(state.relays))]


def _schedule(state: State, conn: int, args: list[str], now: Now) -> Answer:
    schedule = state.period.schedule
    if schedule is None:
        return "no schedule yet: it is made at the begin of a slot, once relays and a measurer are known"
    answer: dict[str, Any] | str
    match args:
        case []:
            answer = schedule_view(state, schedule, now)
        case ["slot", number]:
            last = schedule.slots.n_slots - 1
            fits = number.isascii() and number.isdigit() and len(number) < 10 and int(number) <= last
            answer = (
                slot_view(state, schedule, int(number))
                if fits
                else f"expected a slot from 0 to {last}, got {number[:20]!r}"
            )
        case ["relay", name]:
            relay = state.find_relay(name)
            answer = (
                relay_view(state, schedule, relay)
                if relay
                else f"no such relay (or no unique one): {name[:60]!r}"
            )
        case _:
            answer = "schedule needs nothing, or: slot <number>, or: relay <fingerprint|nickname>"
    return answer if isinstance(answer, str) else [do.SendToCtrl(conn, "OK", answer)]


def _pipeline(state: State, conn: int, args: list[str], now: Now) -> Answer:
    return [do.ShowPipeline(conn)]


def _help(state: State, conn: int, args: list[str], now: Now) -> Answer:
    return [do.SendToCtrl(conn, "OK", {"commands": HELP})]


def _quit(state: State, conn: int, args: list[str], now: Now) -> Answer:
    return [do.SendToCtrl(conn, "OK", {}), do.CloseCtrl(conn)]


HELP = [
    "measure <fingerprint|nickname> [wait]",
    "cancel <meas_id>",
    "status",
    "measurers",
    "relays",
    "results [<fingerprint|nickname>]",
    "schedule [slot <number> | relay <fingerprint|nickname>]",
    "pipeline",
    "v3bw",
    "help",
    "quit",
]
COMMANDS: dict[str, Callable[[State, int, list[str], Now], Answer]] = {
    "measure": _measure,
    "cancel": _cancel,
    "status": _status,
    "measurers": _measurers,
    "relays": _relays,
    "results": _results,
    "schedule": _schedule,
    "pipeline": _pipeline,
    "v3bw": _v3bw,
    "help": _help,
    "quit": _quit,
}
