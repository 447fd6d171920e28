"""Relays that are probably one host's: measured in the same slot, so that the host's capacity counts once."""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Literal

from flashflow.model.ids import Fingerprint
from flashflow.model.relay import RelayInfo

Kind = Literal["address", "family", "prefix"]
"""The same address; declared family; the same /24 (IPv4) or /48 (IPv6)."""
_PREFIX_BITS = {4: 24, 6: 48}


def groups(relays: Iterable[RelayInfo], kinds: frozenset[Kind]) -> tuple[tuple[Fingerprint, ...], ...]:
    """The groups of two relays and more that have one of `kinds` in common, directly or through others; sorted."""
    known = {relay.fingerprint: relay for relay in relays}
    joined = _Joined()
    for relay in known.values():
        for trait in _traits(relay, kinds):
            joined.join(trait, relay.fingerprint)
    if "family" in kinds:
        declared = {fingerprint: dict.fromkeys(relay.family) for fingerprint, relay in known.items()}
        for fingerprint, others in declared.items():
            for other in others:
                if fingerprint in declared.get(other, ()):
                    joined.join(fingerprint, other)
    found: dict[object, list[Fingerprint]] = {}
    for fingerprint in sorted(known):
        found.setdefault(joined.head(fingerprint), []).append(fingerprint)
    return tuple(tuple(members) for members in found.values() if len(members) > 1)


def _traits(relay: RelayInfo, kinds: frozenset[Kind]) -> Iterator[object]:
    """What the relay has in common with others, as far as it can be seen in it alone."""
    if "family" in kinds:
        yield from relay.family_keys
    for host in dict.fromkeys(address.host for address in (relay.address, *relay.more_addresses)):
        if "address" in kinds:
            yield "address", host
        if "prefix" in kinds:
            yield "prefix", _prefix(host)


def _prefix(host: str) -> object:
    try:
        address = ip_address(host)
    except ValueError:  # a name, in a test network
        return host
    return address.version, int(address) >> (address.max_prefixlen - _PREFIX_BITS[address.version])


class _Joined:
    """Things that belong together, each under the head of its set (union-find)."""

    def __init__(self) -> None:
        self._above: dict[object, object] = {}

    def head(self, thing: object) -> object:
        path = []
        while (above := self._above.get(thing, thing)) != thing:
            path.append(thing)
            thing = above
        self._above.update(dict.fromkeys(path, thing))
        return thing

    def join(self, one: object, other: object) -> None:
        self._above[self.head(one)] = self.head(other)
