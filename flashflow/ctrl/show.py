"""What the coordinator answered, for people: one function for each command.

The functions take the JSON object as it came. `show` turns whatever is missing or of another type into PeerError.
"""

from collections.abc import Callable
from typing import Any

from rich.console import Console

from flashflow.ctrl.tables import Table, mbps_text, print_table, printable, utc_text
from flashflow.model.errors import PeerError

Body = dict[str, Any]


def show(command: str, body: Body, console: Console) -> None:
    """Print the answer `body` to `command`. Raises PeerError if it is not of the form that docs/protocol.md gives."""
    try:
        _SHOWN[command](body, console)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PeerError(f"the coordinator's answer to {command} is not as expected: {error!r}") from None


def result_line(result: Body) -> str:
    """One finished measurement in a line."""
    who = f"{result['nickname']} ({result['fingerprint']})"
    if result["outcome"] != "ok":
        failure = result["failure"]
        return printable(f"{who}: failed ({failure['kind']}): {failure['reason']}")
    lower = "" if result["accepted"] else "; a lower bound, for it is too near to what was allocated"
    return printable(
        f"{who}: {mbps_text(result['result_bytes'])} Mbit/s, background {mbps_text(result['background_bytes'])},"
        f" allocated {mbps_text(result['allocated_bytes'])}, {result['duration_s']} s{lower}"
    )


def second_line(event: Body) -> str:
    """One second of a running measurement in a line."""
    return (
        f"second {event['second']:3d}: {mbps_text(event['total_bytes'])} Mbit/s"
        f" (measured {mbps_text(event['measured_bytes'])}, background {mbps_text(event['background_bytes'])})"
    )


def _status(body: Body, console: Console) -> None:
    lines = {
        "version": body["version"],
        "state": body["state"],
        "up": f"{body['uptime_s']:.0f} s",
        "tor client": body["tor_client"],
        "measurers": body["measurers"],
        "relays": body["relays"],
        "queued": body["queued"],
        "next slot": utc_text(body["next_slot_utc_s"]),
        "v3bw": body["v3bw"] or "not written yet",
    }
    for name, value in lines.items():
        console.out(printable(f"{name:10} {value}"), highlight=False)
    rows = [
        (str(m["meas_id"]), m["nickname"], m["fingerprint"], m["phase"], f"{m['elapsed_s']:.0f} s")
        for m in body["measurements"]
    ]
    columns = ("measurement>", "nickname", "fingerprint", "phase", "elapsed>")
    print_table(Table(columns, rows, empty="no measurement runs"), console)


def _measurers(body: Body, console: Console) -> None:
    rows = [
        (
            m["name"],
            "leaving" if m["leaving"] else "connected" if m["connected"] else "away",
            m["host"] or "-",
            mbps_text(m["capacity_bytes"]),
            mbps_text(m["free_bytes"]),
            str(m["session"]["pending"] if m["session"] else 0),
            str(m["session"]["connections"] if m["session"] else 0),
            " ".join(map(str, m["measurements"])),
        )
        for m in body["measurers"]
    ]
    columns = ("name", "state", "host", "Mbit/s>", "free>", "waiting>", "connections>", "measurements")
    print_table(Table(columns, rows, empty="no measurer is known"), console)


def _relays(body: Body, console: Console) -> None:
    rows = [
        (
            r["nickname"],
            r["fingerprint"],
            r["address"],
            (r["mode"] or "-") if r["measurable"] else "not measured",
            mbps_text(r["result_bytes"]),
            utc_text(r["result_utc_s"]),
            "excluded" if r["excluded"] else {True: "yes", False: "lower bound", None: "-"}[r["accepted"]],
            str(r["failures"]),
            str(r["relay_failures"]),
            str(r["forgeries"]),
        )
        for r in body["relays"]
    ]
    columns = (
        "nickname",
        "fingerprint",
        "address",
        "mode",
        "Mbit/s>",
        "measured (UTC)",
        "accepted",
        "failures>",
        "in a row>",
        "forged>",
    )
    print_table(Table(columns, rows, empty="no relay is known"), console)


def _results(body: Body, console: Console) -> None:
    rows = [
        (
            str(r["meas_id"]),
            utc_text(r["started_utc_s"]),
            r["nickname"],
            r["fingerprint"],
            mbps_text(r["result_bytes"]),
            mbps_text(r["background_bytes"]),
            mbps_text(r["allocated_bytes"]),
            _outcome(r),
        )
        for r in body["results"]
    ]
    columns = (
        "measurement>",
        "started (UTC)",
        "nickname",
        "fingerprint",
        "Mbit/s>",
        "background>",
        "allocated>",
        "outcome",
    )
    print_table(Table(columns, rows, empty="no result yet"), console)


def _outcome(result: Body) -> str:
    if result["outcome"] == "ok":
        return "ok" if result["accepted"] else "team limited" if result["team_limited"] else "lower bound"
    return f"{result['failure']['kind']}: {result['failure']['reason']}"


def _schedule(body: Body, console: Console) -> None:
    """Of the period, of a slot, or of a relay."""
    if "slots" in body:
        _show_period(body, console)
    elif "estimate_bytes" in body:
        _show_relay_plan(body, console)
    else:
        when = f"slot {body['slot']}, {utc_text(body['starts_utc_s'])} UTC: {body['relays']} relays"
        console.out(f"{when}, {mbps_text(body['free_bytes'])} Mbit/s free", highlight=False)
        _show_planned(body["measurements"], console)


def _show_period(body: Body, console: Console) -> None:
    counts = ", ".join(f"{body[name]} {name}" for name in ("planned", "done", "waiting", "unplaced"))
    head = f"slot {body['slot']} of {body['n_slots']} ({body['slot_s']} s each), {body['strategy']}: {counts}"
    console.out(printable(head), highlight=False)
    for group in body["split_groups"]:
        text = (
            f"{len(group['members'])} co-located relays are in {group['slots']} slots: no slot holds them all"
        )
        console.out(text, highlight=False)
    rows = [
        (
            str(row["slot"]),
            utc_text(row["starts_utc_s"]),
            str(row["relays"]),
            mbps_text(row["rate_bytes"]),
            mbps_text(row["free_bytes"]),
        )
        for row in body["slots"]
    ]
    columns = ("slot>", "begins (UTC)", "relays>", "Mbit/s>", "free>")
    print_table(Table(columns, rows, empty="no relay has a slot"), console)


def _show_relay_plan(body: Body, console: Console) -> None:
    whose = "our own result" if body["estimate_is_ours"] else "not our own result"
    state = "done for this period" if body["done"] else f"{body['begun']} measurements begun in this period"
    estimate = f"estimate {mbps_text(body['estimate_bytes'])} Mbit/s ({whose})"
    console.out(
        printable(f"{body['nickname']} ({body['fingerprint']}): {estimate}, {state}"), highlight=False
    )
    for row in body["measurements"]:
        console.out(f"slot {row['slot']}, {utc_text(row['starts_utc_s'])} UTC", highlight=False)
    _show_planned(body["measurements"], console)


def _show_planned(planned: list[Body], console: Console) -> None:
    rows = [
        (
            row["nickname"],
            row["fingerprint"],
            row["mode"],
            mbps_text(row["rate_bytes"]),
            " ".join(f"{m['name']}:{mbps_text(m['rate_bytes'])}/{m['n_circs']}" for m in row["measurers"]),
        )
        for row in planned
    ]
    columns = ("nickname", "fingerprint", "mode", "Mbit/s>", "measurers (Mbit/s / circuits)")
    print_table(Table(columns, rows, empty="no measurement is planned"), console)


def _pipeline(body: Body, console: Console) -> None:
    names = ("entered", "passed", "failed", "retried", "set_aside", "handed_back", "waiting", "in_work")
    rows = [(stage["stage"], *(str(stage[name]) for name in names)) for stage in body["stages"]]
    columns = ("stage", *(f"{name.replace('_', ' ')}>" for name in names))
    print_table(Table(columns, rows, empty="no stage"), console)
    aside = [
        (one["fingerprint"], one["stage"], str(one["tries"]), one["reason"]) for one in body["set_aside"]
    ]
    print_table(
        Table(("set aside", "stage", "tries>", "reason"), aside, empty="no relay was set aside"), console
    )


def _v3bw(body: Body, console: Console) -> None:
    console.out(printable(f"{body['path']} ({body['relays']} relays)"), highlight=False)


def _measure(body: Body, console: Console) -> None:
    text = f"measurement {body['meas_id']} of {body['nickname']} ({body['fingerprint']}) is to be made"
    console.out(printable(text), highlight=False)


def _cancel(body: Body, console: Console) -> None:
    console.out(printable(f"measurement {body.get('meas_id', '')} is being cancelled"), highlight=False)


_SHOWN: dict[str, Callable[[Body, Console], None]] = {
    "status": _status,
    "measurers": _measurers,
    "relays": _relays,
    "results": _results,
    "schedule": _schedule,
    "pipeline": _pipeline,
    "v3bw": _v3bw,
    "measure": _measure,
    "cancel": _cancel,
}
