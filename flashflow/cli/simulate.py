"""`flashflow simulate`: how long the coordinator would take for a network, without measuring anything."""

import json
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from flashflow.cli.app import App
from flashflow.ctrl.tables import printable

app = App()


class Strategy(StrEnum):
    """How slots are chosen."""

    FASTEST = "fastest"
    UNIFORM = "uniform"


@app.command()
def simulate(
    consensus: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="A consensus, ordinary or of microdescriptors; xz, gz, zst or plain."
        ),
    ],
    team: Annotated[
        str, typer.Option(metavar="LIST", help="The measurers' capacities, Mbit/s.")
    ] = "1000,1000,1000",
    slot: Annotated[int, typer.Option(metavar="S", help="Length of a slot.", max=604_800)] = 30,
    period: Annotated[
        int, typer.Option(metavar="S", help="Length of the period.", min=1, max=31_536_000)
    ] = 86_400,
    multiplier: Annotated[float, typer.Option(metavar="M", help="m of the paper.", min=1, max=100)] = 2.25,
    epsilon1: Annotated[float, typer.Option(help="ε1, the error below.", min=0, max=0.9)] = 0.20,
    epsilon2: Annotated[float, typer.Option(help="ε2, the error above.", min=0, max=1)] = 0.05,
    strategy: Annotated[
        Strategy, typer.Option(help="As early as capacity allows, or at random over the period.")
    ] = Strategy.FASTEST,
    co_location: Annotated[
        str,
        typer.Option(
            metavar="KINDS", help="Relays that share a slot: none, or some of address,family,prefix."
        ),
    ] = "none",
    noise: Annotated[
        float,
        typer.Option(
            metavar="SIGMA",
            help="A relay's true capacity is its estimate times exp(N(0, SIGMA)).",
            min=0,
            max=5,
        ),
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of every draw: the same seed, the same figures.")] = 0,
    descriptors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Server descriptors, for families (ordinary consensus only)."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Run the real schedule and the coordinator's core through one period on a virtual clock, without traffic.

    Every running relay of the consensus is measured, as if nothing were known of it but its consensus weight.
    """
    from rich.console import Console

    from coordinator.simulate.consensus import read_network
    from coordinator.simulate.run import simulate as run
    from coordinator.simulate.settings import Settings, parse_colocation, parse_team

    settings = Settings(
        team_bytes=parse_team(team),
        slot_s=slot,
        period_s=period,
        multiplier=Fraction(str(multiplier)),
        epsilon1=Fraction(str(epsilon1)),
        epsilon2=Fraction(str(epsilon2)),
        strategy=strategy.value,
        colocation=parse_colocation(co_location),
        noise=noise,
        seed=seed,
    )
    settings.params()  # says what is wrong before anything is read
    console = Console(stderr=True)
    with console.status(Text(f"reading {printable(str(consensus))}")) as status:
        network = read_network(consensus, descriptors)
        n_slots = period // slot
        figures = run(
            network, settings, lambda number: status.update(Text(f"slot {number + 1} of {n_slots}"))
        )
    if "family" in settings.colocation and not descriptors:
        typer.echo("note: a consensus names no families, --co-location family takes --descriptors", err=True)
    if as_json:
        print(json.dumps(figures))
    else:
        _show(figures)


def _show(figures: dict[str, Any]) -> None:
    from rich.console import Console

    from flashflow.ctrl.tables import Table, print_table

    rows = [(name.replace("_", " "), _text(value)) for name, value in figures.items()]
    print_table(Table(("figure", "value>"), rows), Console())


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
