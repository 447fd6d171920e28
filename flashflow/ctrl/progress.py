"""Follows one measurement: a live line on a terminal, a line for each event elsewhere."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from flashflow.ctrl.show import result_line, second_line
from flashflow.ctrl.tables import printable
from flashflow.model.errors import PeerError


def follow(events: Iterable[dict[str, Any]], console: Console, title: str) -> dict[str, Any]:
    """Show `events` as they come and return the last, `done`. Raises PeerError for what is no event."""
    done: dict[str, Any] = {}
    with console.status(Text(f"{title}: waiting")) as live:
        for done in events:
            try:
                text = _event_line(done)
            except (KeyError, TypeError, ValueError) as error:
                raise PeerError(f"the coordinator's event is not as expected: {error!r}") from None
            if done["event"] == "done":
                break
            if console.is_terminal:
                live.update(Text(f"{title}: {text}"))
            else:
                console.out(f"{title}: {text}", highlight=False)
    return done


def _event_line(event: dict[str, Any]) -> str:
    match event["event"]:
        case "second":
            return second_line(event)
        case "done":
            return result_line(event)
        case "phase":
            return printable(str(event["phase"]).lower())
        case other:
            return printable(str(other))
