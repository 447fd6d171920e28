"""`flashflow ctrl`: talk to a running coordinator."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from flashflow.cli.app import new_app
from flashflow.ctrl.access import Access, find_access
from flashflow.ctrl.client import CtrlClient
from flashflow.ctrl.progress import follow
from flashflow.ctrl.show import result_line, show
from flashflow.model.errors import UsageError

app = new_app("Talk to a running coordinator: --config coord.conf, or --addr ADDRESS and --cookie FILE.")

AsJson = Annotated[bool, typer.Option("--json", help="Print the coordinator's answer as JSON.")]
Relay = Annotated[str, typer.Argument(metavar="RELAY", help="Fingerprint (40 hex digits) or nickname.")]
Config = Annotated[
    Path | None, typer.Option(help="The coordinator's file (default: ./coord.conf if it exists).")
]
Addr = Annotated[str | None, typer.Option(metavar="ADDRESS", help="host:port or [IPv6]:port to connect to.")]
Cookie = Annotated[Path | None, typer.Option(metavar="FILE", help="The coordinator's control_auth_cookie.")]


@app.callback()
def _where(ctx: typer.Context, config: Config = None, addr: Addr = None, cookie: Cookie = None) -> None:
    ctx.obj = (config, addr, cookie)


@app.command()
def measure(
    ctx: typer.Context,
    relay: Relay,
    wait: Annotated[bool, typer.Option("--wait", help="Show each second, and the result.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a relay now; with --wait exit 1 if the measurement fails."""
    with CtrlClient(_access(ctx)) as client:
        if not wait:
            _print("measure", client.request("measure", relay), as_json=as_json)
            return
        begun = client.request("measure", relay, "wait")
        done = _follow_json(client) if as_json else _follow(client, str(begun.get("nickname", relay)))
    raise SystemExit(0 if done.get("outcome") == "ok" else 1)


@app.command()
def cancel(
    ctx: typer.Context,
    meas_id: Annotated[int, typer.Argument(metavar="ID", min=1, help="The measurement's number.")],
    as_json: AsJson = False,
) -> None:
    """End a measurement, or take it from the queue."""
    _ask(ctx, "cancel", str(meas_id), as_json=as_json)


@app.command()
def status(ctx: typer.Context, as_json: AsJson = False) -> None:
    """What the coordinator does at the moment."""
    _ask(ctx, "status", as_json=as_json)


@app.command()
def measurers(ctx: typer.Context, as_json: AsJson = False) -> None:
    """The measurers, their capacity and what they do."""
    _ask(ctx, "measurers", as_json=as_json)


@app.command()
def relays(ctx: typer.Context, as_json: AsJson = False) -> None:
    """The relays that the filter allows, with their newest results."""
    _ask(ctx, "relays", as_json=as_json)


@app.command()
def results(
    ctx: typer.Context,
    relay: Annotated[str | None, typer.Argument(metavar="[RELAY]", help="Only this relay's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Finished measurements, the newest first."""
    _ask(ctx, "results", *([relay] if relay is not None else []), as_json=as_json)


@app.command()
def schedule(
    ctx: typer.Context,
    slot: Annotated[int | None, typer.Option(min=0, help="The relays of this slot of the period.")] = None,
    relay: Annotated[
        str | None, typer.Option(metavar="RELAY", help="What is planned for this relay.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What is to be measured next, or in a slot, or when a relay is."""
    if slot is not None and relay is not None:
        raise UsageError("--slot and --relay: expected one of them")
    of_slot = ["slot", str(slot)] if slot is not None else []
    of_relay = ["relay", relay] if relay is not None else []
    _ask(ctx, "schedule", *of_slot, *of_relay, as_json=as_json)


@app.command()
def pipeline(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Relays on their way to the schedule: what each stage did, and what was set aside."""
    _ask(ctx, "pipeline", as_json=as_json)


@app.command()
def v3bw(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Write the bandwidth file now and print its path."""
    _ask(ctx, "v3bw", as_json=as_json)


def _access(ctx: typer.Context) -> Access:
    return find_access(*ctx.obj)


def _ask(ctx: typer.Context, *words: str, as_json: bool) -> None:
    with CtrlClient(_access(ctx)) as client:
        answer = client.request(*words)
    _print(words[0], answer, as_json=as_json)


def _print(command: str, answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer))
    else:
        show(command, answer, Console())


def _follow(client: CtrlClient, title: str) -> dict[str, Any]:
    console = Console()
    done = follow(client.events(), console, title)
    console.out(result_line(done), highlight=False)
    return done


def _follow_json(client: CtrlClient) -> dict[str, Any]:
    done: dict[str, Any] = {}
    for done in client.events():
        print(json.dumps(done))
        sys.stdout.flush()
    return done
