"""Makes stem know FF_MEAS events (stem 1.8 has no way but its table of event classes)."""

from typing import Any

import stem.response.events
import stem.version

from flashflow.torctl.events import Event, EventError, parse_event

FF_MEAS = "FF_MEAS"


class FFMeasEvent(stem.response.events.Event):  # type: ignore[misc]
    """A stem event of FlashFlow; its attributes are None where the event's type has no such word."""

    _POSITIONAL_ARGS = ("ffmeas_type", "meas_id")
    _KEYWORD_ARGS = {
        "ACCEPTED": "accepted",
        "SECOND": "second",
        "SENT": "sent",
        "RECV": "recv",
        "SUCCESS": "success",
        "REASON": "reason",
    }
    _VERSION_ADDED = stem.version.Version("0.1.1.1-alpha")


def register() -> None:
    """Adds FF_MEAS to the event classes that stem knows; further calls change nothing."""
    stem.response.events.EVENT_TYPE_TO_CLASS[FF_MEAS] = FFMeasEvent
    # A NEWCONSENSUS event would be parsed on stem's thread, which holds the GIL for seconds.
    stem.response.events.PARSE_NEWCONSENSUS_EVENTS = False


def from_stem(event: Any) -> Event | EventError | None:
    """Our event out of stem's; None if it is none of ours, the error if it is malformed. Never raises."""
    try:
        return parse_event(str(event))
    except EventError as exc:
        return exc
