"""`flashflow demo`: a small deployment on this machine, measured from start to end."""

import json
import shlex
import signal
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from flashflow.cli.app import new_app
from flashflow.ctrl.tables import printable
from flashflow.demo.period import run_period_demo
from flashflow.demo.period_plan import make_period_plan
from flashflow.demo.plan import DEFAULT_DURATION_S, make_plan
from flashflow.demo.run import run_demo
from flashflow.demo.tor import run_tor_demo
from flashflow.demo.tor_install import ensure_tor
from flashflow.demo.tor_plan import make_tor_plan
from flashflow.model.errors import UsageError

app = new_app()


@app.command()
def demo(
    relays: Annotated[
        int | None, typer.Option(metavar="N", help="How many relays (default 4, with --period 5).")
    ] = None,
    rates: Annotated[
        str | None, typer.Option(metavar="LIST", help="Their limits, Mbit/s (default 8,40,120,400).")
    ] = None,
    duration: Annotated[
        int | None,
        typer.Option(
            metavar="S", help="Seconds that a measurement counts (default 10; --tor 25, --period 5)."
        ),
    ] = None,
    background: Annotated[
        float, typer.Option(metavar="PERCENT", help="Other traffic, percent of a relay's limit.")
    ] = 0.0,
    tor: Annotated[
        bool, typer.Option("--tor", help="A private network of stock tor instead of FlashFlow's own relays.")
    ] = False,
    period: Annotated[
        bool, typer.Option("--period", help="Measure by the schedule while a relay joins and one leaves.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where demo.json and v3bw go.")] = Path("demo-out"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print demo.json; all else goes to stderr.")
    ] = False,
    host: Annotated[str, typer.Option(hidden=True)] = "127.0.0.1",
    relay_command: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start relays, a coordinator and two measurers here, measure every relay, write a v3bw file.

    Exit status 1 if a result is more than 3 % off the relay's own count, or more than 10 % off its configured rate
    though the relay itself reached that. With --tor, a rate may be `unlimited`, a relay's own count is that of tor's
    BW events, and the status is 1 as well if the authorities' consensus does not carry the v3bw file's weights. With --period, nothing asks for a
    measurement: the last relay of --rates joins when the others have their slots, then the one with the next slot
    leaves, and the status is 1 as well if a relay that should be measured is not, or one that left is.
    """
    console = Console(stderr=as_json)
    command = shlex.split(relay_command) if relay_command else None
    if tor and period:
        raise UsageError("--tor and --period: expected one of them")
    if tor:
        tor_plan = make_tor_plan(relays, rates, duration, background, host)
        ensure_tor(console)
        run = partial(run_tor_demo, tor_plan, out, console)
    elif period:
        period_plan = make_period_plan(relays, rates, duration, background, host)
        run = partial(run_period_demo, period_plan, out, console, command)
    else:
        plan = make_plan(
            relays, rates, DEFAULT_DURATION_S if duration is None else duration, background, host
        )
        run = partial(run_demo, plan, out, console, command)
    signal.signal(signal.SIGTERM, _terminated)
    outcome = run()
    if as_json:
        print(json.dumps(outcome.document))
    console.out(printable(f"v3bw file: {outcome.document['v3bw']}"), highlight=False)
    raise SystemExit(1 if outcome.complaints else 0)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
