"""A real small deployment for integration tests: reference relays, a coordinator, two measurers, all processes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from flashflow.demo.deployment import Deployment
from flashflow.demo.plan import Plan


@contextmanager
def deployment(
    folder: Path,
    rates_mbps: Sequence[float] = (20.0,),
    duration_s: int = 3,
    host: str = "127.0.0.1",
    background_percent: float = 0.0,
    commands: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Deployment]:
    """Start it in `folder`, wait until a measurement can begin, end every process afterwards.

    `commands` gives relays (`relay1`, `relay2` …) that are not `flashflow relay`. The logs are in FOLDER/logs; `.ctrl()` connects to the coordinator, `.relays`, `.child(name)` and `.children` give
    what runs.
    """
    plan = Plan(tuple(rates_mbps), duration_s, background_percent, host)
    with Deployment(plan, folder, commands=commands) as running:
        try:
            running.start()
        except Exception as error:
            for child in running.children:
                error.add_note(f"--- {child.name} (status {child.returncode}):\n{child.tail()}")
            raise
        yield running
