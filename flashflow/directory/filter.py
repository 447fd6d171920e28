"""The relay filter: which relays may be measured, how, and with what limit. First match wins; no match, no measuring.

A rule is a line `allow|deny FINGERPRINT|* [mode=echo|loop] [rate=MBIT]`; `#` begins a comment. A loop measurement
needs no consent from the relay, so only a full fingerprint may ask for one.
"""

from dataclasses import dataclass, field
from pathlib import Path

from flashflow.model.errors import UsageError
from flashflow.model.ids import Fingerprint, parse_fingerprint
from flashflow.model.units import from_mbps

MAX_FILE_BYTES = 16 << 20
"""A filter file larger than this is some other file."""
MAX_RATE_MBPS = 1_000_000
"""Above this a rate is a mistake of units."""
MODES = ("echo", "loop")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the filter."""

    allow: bool
    """Whether the relay may be measured."""
    fingerprint: Fingerprint | None
    """The relay; None for `*`, every relay."""
    mode: str
    """`echo` or `loop`."""
    rate_limit_bytes: int | None
    """Never load the relay with more than this, cell bytes/s; None for no limit of its own."""
    line: int
    """Where it stands, 1 for the first line."""


@dataclass(frozen=True, slots=True)
class RelayFilter:
    """The rules in order; without any, nothing is measured."""

    rules: tuple[Rule, ...] = ()
    """As they stand in the file."""
    _first: dict[Fingerprint | None, int] = field(init=False, repr=False, compare=False, default_factory=dict)
    """Place of the first rule for a fingerprint, or for `*` under None."""

    def __post_init__(self) -> None:
        for place, rule in enumerate(self.rules):
            self._first.setdefault(rule.fingerprint, place)

    def match(self, fingerprint: Fingerprint) -> Rule | None:
        """The rule that decides about the relay, or None: it must not be measured."""
        end = len(self.rules)
        place = min(self._first.get(fingerprint, end), self._first.get(None, end))
        return self.rules[place] if place < end else None

    @classmethod
    def parse(cls, text: str, source: str) -> "RelayFilter":
        """The filter in `text`; errors name `source`, the line and what was expected. Raises UsageError."""
        rules = []
        for number, line in enumerate(text.split("\n"), start=1):
            words = line.partition("#")[0].split()
            if words:
                try:
                    rules.append(_parse_rule(words, number))
                except UsageError as error:
                    raise UsageError(f"{source}, line {number}: {error.reason}") from None
        return cls(tuple(rules))


def load_filter(path: Path) -> RelayFilter:
    """The filter in the file at `path`. Raises UsageError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot read the relay filter: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path}: not a relay filter: larger than {MAX_FILE_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}, line {line}: not a relay filter: not UTF-8") from None
    return RelayFilter.parse(text, str(path))


def _parse_rule(words: list[str], line: int) -> Rule:
    action, *rest = words
    if action not in ("allow", "deny"):
        raise UsageError(f"expected allow or deny, got {action[:40]!r}")
    if not rest:
        raise UsageError(f"expected a fingerprint or * after {action}")
    fingerprint = None if rest[0] == "*" else parse_fingerprint(rest[0])
    options = _parse_options(rest[1:])
    if action == "deny" and options:
        raise UsageError("expected nothing after the relay that is denied")
    mode = options.get("mode", "echo")
    if mode not in MODES:
        raise UsageError(f"mode: expected echo or loop, got {mode[:40]!r}")
    if mode == "loop" and fingerprint is None:
        raise UsageError("mode=loop: expected a full fingerprint: only the operator's own word allows it")
    return Rule(action == "allow", fingerprint, mode, _parse_rate(options.get("rate")), line)


def _parse_options(words: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in ("mode", "rate"):
            raise UsageError(f"expected mode=echo|loop or rate=MBIT, got {word[:40]!r}")
        if key in options:
            raise UsageError(f"{key} stands twice")
        options[key] = value
    return options


def _parse_rate(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        mbps = float(text)
    except ValueError:
        mbps = 0.0
    if not 0.01 <= mbps <= MAX_RATE_MBPS:  # false for nan too
        raise UsageError(f"rate: expected Mbit/s from 0.01 to {MAX_RATE_MBPS}, got {text[:40]!r}")
    return from_mbps(mbps)
