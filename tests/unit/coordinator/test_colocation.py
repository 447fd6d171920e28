"""Which relays count as one host's."""

from collections.abc import Sequence

import pytest

from coordinator.core.colocation import Kind, groups
from flashflow.model.ids import Address, Fingerprint
from flashflow.model.relay import RelayInfo
from support.coordinator_world import relay

ALL: frozenset[Kind] = frozenset({"address", "family", "prefix"})


def fp(number: int) -> Fingerprint:
    return relay(number).fingerprint


def at(number: int, host: str, *more: str) -> RelayInfo:
    others = tuple(Address(other, 9001) for other in more)
    return relay(number, address=Address(host, 9001), more_addresses=others)


def declares(number: int, *others: int, keys: Sequence[bytes] = ()) -> RelayInfo:
    family = tuple(sorted(fp(other) for other in others))
    return relay(number, address=Address(f"10.{number}.0.1", 1), family=family, family_keys=tuple(keys))


def test_without_a_kind_nobody_is_grouped() -> None:
    assert groups([at(1, "192.0.2.1"), at(2, "192.0.2.1")], frozenset()) == ()


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (["192.0.2.1"], ["192.0.2.1"], {"address", "prefix"}),
        (["192.0.2.1"], ["192.0.2.200"], {"prefix"}),
        (["192.0.2.1"], ["192.0.3.1"], set()),
        (["192.0.2.1", "2001:db8:1::1"], ["198.51.100.1", "2001:db8:1::1"], {"address", "prefix"}),
        (["192.0.2.1", "2001:db8:1:2::1"], ["198.51.100.1", "2001:db8:1:3::1"], {"prefix"}),
        (["2001:db8:1::1"], ["2001:db8:2::1"], set()),
        (["localhost"], ["localhost"], {"address", "prefix"}),
    ],
)
def test_addresses(one: list[str], other: list[str], together: set[Kind]) -> None:
    relays = [at(1, *one), at(2, *other)]
    for kind in ALL:
        assert groups(relays, frozenset({kind})) == (((fp(1), fp(2)),) if kind in together else ())


def test_the_port_does_not_matter() -> None:
    same_host = [relay(1), relay(2)]
    assert same_host[0].address.port != same_host[1].address.port
    assert groups(same_host, frozenset({"address"})) == ((fp(1), fp(2)),)


def test_a_family_has_to_be_declared_by_both() -> None:
    kinds: frozenset[Kind] = frozenset({"family"})
    assert groups([declares(1, 2), declares(2)], kinds) == ()
    assert groups([declares(1, 2, 9), declares(2, 1)], kinds) == ((fp(1), fp(2)),)
    assert groups([declares(1, 1), declares(2, 2)], kinds) == ()


def test_a_certificate_of_the_same_family_key_will_do() -> None:
    relays = [declares(1, keys=[b"k" * 32]), declares(2, keys=[b"j" * 32, b"k" * 32]), declares(3)]
    assert groups(relays, frozenset({"family"})) == ((fp(1), fp(2)),)
    assert groups(relays, frozenset({"address", "prefix"})) == ()


def test_groups_join_through_others_and_are_sorted() -> None:
    relays = [at(4, "192.0.2.1"), at(2, "192.0.2.2"), at(3, "192.0.2.2", "2001:db8::1"), at(1, "2001:db8::1")]
    assert groups(relays, frozenset({"address"})) == ((fp(1), fp(2), fp(3)),)
    assert groups(relays, frozenset({"prefix"})) == ((fp(1), fp(2), fp(3), fp(4)),)
    mixed = [declares(7, 6), declares(6, 7), relay(5, address=Address("10.6.0.1", 5)), at(8, "10.9.9.9")]
    assert groups(mixed, ALL) == ((fp(5), fp(6), fp(7)),)


def test_the_order_of_the_relays_does_not_matter() -> None:
    relays = [at(number, f"192.0.2.{number % 7}") for number in range(1, 40)]
    assert groups(relays, ALL) == groups(list(reversed(relays)), ALL)
    assert len(groups(relays, frozenset({"address"}))) == 7


def test_a_family_in_which_each_declares_all() -> None:
    every = range(1, 101)
    relays = [
        relay(1, fingerprint=fp(n), address=Address(f"10.{n}.0.1", 1), family=tuple(fp(m) for m in every))
        for n in every
    ]
    assert [len(group) for group in groups(relays, ALL)] == [100]
