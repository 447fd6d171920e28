"""Asynchronous events: CIRC and FF_MEAS, built by the server side and parsed by the controller's."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from flashflow.model.errors import PeerError

_TOKEN: Final = re.compile(r"[!-~]+")


class EventError(PeerError):
    """An event that is not well-formed."""


@dataclass(frozen=True, slots=True)
class CircEvent:
    """A circuit changed."""

    circ_id: str
    """The circuit's id in replies and events."""
    status: str
    """LAUNCHED, BUILT, FAILED or CLOSED."""
    reason: str | None = None
    """Why, for FAILED and CLOSED."""

    def line(self) -> str:
        """The event without its status code."""
        return f"CIRC {self.circ_id} {self.status}" + _reason(self.reason)


@dataclass(frozen=True, slots=True)
class ParamsSent:
    """MEAS_PARAMS went out to the relay."""

    meas_id: int
    """Measurement."""

    def line(self) -> str:
        """The event without its status code."""
        return f"FF_MEAS PARAMS_SENT {self.meas_id}"


@dataclass(frozen=True, slots=True)
class ParamsOk:
    """The relay answered MEAS_PARAMS."""

    meas_id: int
    """Measurement."""
    accepted: bool
    """Whether it may be measured."""
    reason: str | None = None
    """Why not, one token."""

    def line(self) -> str:
        """The event without its status code."""
        return f"FF_MEAS PARAMS_OK {self.meas_id} ACCEPTED={int(self.accepted)}" + _reason(self.reason)


@dataclass(frozen=True, slots=True)
class BwReport:
    """One second of a measurement: a measurer's echo traffic, or the relay's background traffic."""

    meas_id: int
    """Measurement."""
    second: int
    """From 1."""
    sent_bytes: int
    """Cell bytes sent in that second."""
    recv_bytes: int
    """Cell bytes received in that second."""

    def line(self) -> str:
        """The event without its status code."""
        return f"FF_MEAS BW_REPORT {self.meas_id} SECOND={self.second} SENT={self.sent_bytes} RECV={self.recv_bytes}"


@dataclass(frozen=True, slots=True)
class MeasEnd:
    """The measurement is over on this side."""

    meas_id: int
    """Measurement."""
    success: bool
    """Whether it went through to its end."""
    reason: str | None = None
    """Why not, one token."""

    def line(self) -> str:
        """The event without its status code."""
        return f"FF_MEAS END {self.meas_id} SUCCESS={int(self.success)}" + _reason(self.reason)


Event = CircEvent | ParamsSent | ParamsOk | BwReport | MeasEnd


def parse_event(text: str) -> Event | None:
    """Reads an event (without its status code); None for a kind that is not ours. EventError if malformed."""
    words = text.split()
    if words[:1] == ["CIRC"]:
        return _circ(words)
    if words[:1] != ["FF_MEAS"]:
        return None
    if len(words) < 3 or not _is_number(words[2]):
        raise EventError(f"FF_MEAS event: {text[:100]!r}, a type and a measurement id expected")
    parse = _FF_MEAS.get(words[1])
    return None if parse is None else parse(int(words[2]), _keywords(words[3:]))


def _circ(words: Sequence[str]) -> CircEvent:
    if len(words) < 3:
        raise EventError(f"CIRC event: {' '.join(words)[:100]!r}, an id and a status expected")
    reasons = [word for word in words[3:] if word.startswith("REASON=")]
    return CircEvent(words[1], words[2], reasons[0].removeprefix("REASON=") if reasons else None)


def _keywords(words: Sequence[str]) -> dict[str, str]:
    return {key: value for key, equals, value in (word.partition("=") for word in words) if equals}


def _number(keywords: dict[str, str], key: str) -> int:
    value = keywords.get(key, "")
    if not _is_number(value):
        raise EventError(f"FF_MEAS event: {key}={value[:20]}, a number expected")
    return int(value)


def _flag(keywords: dict[str, str], key: str) -> bool:
    value = keywords.get(key)
    if value not in ("0", "1"):
        raise EventError(f"FF_MEAS event: {key}={str(value)[:20]}, 0 or 1 expected")
    return value == "1"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


def _reason(reason: str | None) -> str:
    if reason is None:
        return ""
    if not _TOKEN.fullmatch(reason):
        raise ValueError(f"reason {reason!r}: a single token expected")
    return f" REASON={reason}"


_FF_MEAS: Final[dict[str, Callable[[int, dict[str, str]], Event]]] = {
    "PARAMS_SENT": lambda meas_id, _: ParamsSent(meas_id),
    "PARAMS_OK": lambda meas_id, words: ParamsOk(meas_id, _flag(words, "ACCEPTED"), words.get("REASON")),
    "BW_REPORT": lambda meas_id, words: BwReport(
        meas_id, _number(words, "SECOND"), _number(words, "SENT"), _number(words, "RECV")
    ),
    "END": lambda meas_id, words: MeasEnd(meas_id, _flag(words, "SUCCESS"), words.get("REASON")),
}
