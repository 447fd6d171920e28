"""The relay filter: which relays may be measured, how, and with what limit. First match wins; no match, no measuring.

A rule is a line `allow|deny WHO [mode=echo|loop] [rate=MBIT]`; `#` begins a comment. WHO is one of

- `FINGERPRINT`, one relay;
- `nick:NAME`, every relay that calls itself so, in upper or lower case;
- `family:FINGERPRINT`, that relay, each relay that it declares as family and that declares it, and each that holds a
  certificate of the same family key;
- `net:NETWORK`, such as 192.0.2.0/24 or 2001:db8::/32: allows the relays that would be measured at an address in it,
  denies those that have any address in it;
- `*`, every relay.

A loop measurement needs no consent from the relay, so only a full fingerprint may ask for one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal, NamedTuple

from flashflow.model.errors import UsageError
from flashflow.model.ids import Address, Fingerprint, Mode, parse_fingerprint
from flashflow.model.relay import RelayInfo
from flashflow.model.units import from_mbps

MAX_FILE_BYTES = 16 << 20
"""A filter file larger than this is some other file."""
MAX_RATE_MBPS = 1_000_000
"""Above this a rate is a mistake of units."""
MODES: dict[str, Mode] = {"echo": "echo", "loop": "loop"}
_NICKNAME = re.compile(r"[A-Za-z0-9]{1,19}")
_EXPECTED_WHO = "a fingerprint, nick:NAME, family:FINGERPRINT, net:NETWORK or *"


class Who(NamedTuple):
    """The relays that a rule is about."""

    kind: Literal["fingerprint", "nick", "family", "net", "*"]
    """What they have in common."""
    value: str
    """Fingerprint, nickname in lower case or network in its usual form; empty for `*`."""

    def __str__(self) -> str:
        """As it is written in the file."""
        return {"fingerprint": self.value, "*": "*"}.get(self.kind, f"{self.kind}:{self.value}")


EVERYONE = Who("*", "")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the filter."""

    allow: bool
    """Whether the relays may be measured."""
    who: Who
    """The relays."""
    mode: Mode
    """`echo` or `loop`."""
    rate_limit_bytes: int | None
    """Never load a relay with more than this, cell bytes/s; None for no limit of its own."""
    line: int
    """Where it stands, 1 for the first line."""


@dataclass(frozen=True, slots=True)
class RelayFilter:
    """The rules in order; without any, nothing is measured."""

    rules: tuple[Rule, ...] = ()
    """As they stand in the file."""

    def resolve(self, relays: Iterable[RelayInfo]) -> dict[Fingerprint, Rule]:
        """For each relay that matches a rule, the first that it matches: the one that decides about it.

        `relays` is the whole consensus, for it takes both relays to see a family. Its order is kept.
        """
        known = {relay.fingerprint: relay for relay in relays}
        index = _Index(self.rules, known)
        places = ((relay.fingerprint, min(index.places(relay), default=None)) for relay in known.values())
        return {fingerprint: self.rules[place] for fingerprint, place in places if place is not None}

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


class _Index:
    """The rules by what they match, so that a relay costs a few look-ups however many rules there are."""

    def __init__(self, rules: tuple[Rule, ...], known: Mapping[Fingerprint, RelayInfo]) -> None:
        self._known = known
        self._first: dict[str, dict[str, int]] = {
            "fingerprint": {},
            "nick": {},
            "family": {},
            "net": {},
            "*": {},
        }
        self._networks: dict[tuple[bool, int], dict[int, dict[int, int]]] = {}
        for place, rule in enumerate(rules):
            self._first[rule.who.kind].setdefault(rule.who.value, place)
            if rule.who.kind == "net":
                self._add_network(rule, place)
        self._family_keys: dict[bytes, int] = {}
        for head, place in self._first["family"].items():  # in the order of the rules
            for key in known[Fingerprint(head)].family_keys if head in known else ():
                self._family_keys.setdefault(key, place)

    def places(self, relay: RelayInfo) -> Iterator[int]:
        """Places of rules that match the relay, the first of each kind among them."""
        fingerprint, nick, family = (self._first[kind] for kind in ("fingerprint", "nick", "family"))
        own = (
            self._first["*"].get(EVERYONE.value),
            fingerprint.get(relay.fingerprint),
            nick.get(relay.nickname.lower()),
            family.get(relay.fingerprint),
        )
        yield from (place for place in own if place is not None)
        for head in relay.family if family else ():
            if head in family and _declares(self._known.get(head), relay):
                yield family[head]
        yield from (self._family_keys[key] for key in relay.family_keys if key in self._family_keys)
        if self._networks:
            yield from self._of_address(relay.address, allow=True)
            for address in (relay.address, *relay.more_addresses):
                yield from self._of_address(address, allow=False)

    def _add_network(self, rule: Rule, place: int) -> None:
        """A network counts by the leading bits of its addresses: how many, which, and where its rule stands."""
        network = ip_network(rule.who.value)
        bits = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
        lengths = self._networks.setdefault((rule.allow, network.version), {})
        lengths.setdefault(network.prefixlen, {}).setdefault(bits, place)

    def _of_address(self, address: Address, *, allow: bool) -> Iterator[int]:
        lengths = self._networks.get((allow, 6 if ":" in address.host else 4))
        if lengths is None:  # reading an address is dear
            return
        number = ip_address(address.host)
        for length, places in lengths.items():
            place = places.get(int(number) >> (number.max_prefixlen - length))
            if place is not None:
                yield place


def _declares(head: RelayInfo | None, relay: RelayInfo) -> bool:
    return head is not None and relay.fingerprint in head.family


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
    if text and not text.endswith("\n"):  # half a rule may allow more than the whole one
        line = text.count("\n") + 1
        raise UsageError(f"{path}, line {line}: expected a newline at the end of the file: is it cut off?")
    return RelayFilter.parse(text, str(path))


def _parse_rule(words: list[str], line: int) -> Rule:
    action, *rest = words
    if action not in ("allow", "deny"):
        raise UsageError(f"expected allow or deny, got {action[:40]!r}")
    if not rest:
        raise UsageError(f"expected {_EXPECTED_WHO} after {action}")
    who = _parse_who(rest[0])
    options = _parse_options(rest[1:])
    if action == "deny" and options:
        raise UsageError("expected nothing after the relay that is denied")
    named = options.get("mode", "echo")
    mode = MODES.get(named)
    if mode is None:
        raise UsageError(f"mode: expected echo or loop, got {named[:40]!r}")
    if mode == "loop" and who.kind != "fingerprint":
        raise UsageError("mode=loop: expected a full fingerprint: only the operator's own word allows it")
    return Rule(action == "allow", who, mode, _parse_rate(options.get("rate")), line)


def _parse_who(word: str) -> Who:
    if word == EVERYONE.kind:
        return EVERYONE
    kind, colon, value = word.partition(":")
    if not colon:
        return Who("fingerprint", _parse_own_fingerprint(word))
    if kind == "family":
        return Who("family", parse_fingerprint(value))
    if kind == "nick" and _NICKNAME.fullmatch(value):
        return Who("nick", value.lower())
    if kind == "nick":
        raise UsageError(f"nick: expected 1 to 19 letters and digits, got {value[:40]!r}")
    if kind == "net":
        return Who("net", _parse_network(value))
    raise UsageError(f"expected {_EXPECTED_WHO}, got {word[:40]!r}")


def _parse_own_fingerprint(word: str) -> Fingerprint:
    try:
        return parse_fingerprint(word)
    except UsageError as error:
        raise UsageError(f"{error.reason}; a nickname is written nick:NAME") from None


def _parse_network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        expected = "a network such as 192.0.2.0/24 or 2001:db8::/32, without bits beyond its length"
        raise UsageError(f"net: expected {expected}, got {text[:60]!r}") from None


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
