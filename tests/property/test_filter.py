"""The relay filter against a plain search, and against any text."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from flashflow.directory.filter import EVERYONE, RelayFilter, Rule, Who
from flashflow.model.errors import UsageError
from flashflow.model.ids import Address, Fingerprint
from flashflow.model.relay import RelayInfo
from support.coordinator_world import relay as make_relay

FINGERPRINTS = st.sampled_from([Fingerprint(digit * 40) for digit in "01234567"])
NICKNAMES = st.sampled_from(["alpha", "Alpha", "beta", "gamma1"])
HOSTS = st.sampled_from(["127.0.0.1", "127.0.0.2", "127.1.0.1", "::1", "2001:db8::1"])
NETWORKS = st.sampled_from(
    ["127.0.0.1/32", "127.0.0.0/30", "127.0.0.0/8", "0.0.0.0/0", "::1/128", "2001:db8::/32", "::/0"]
)
WHO = st.one_of(
    FINGERPRINTS.map(lambda value: Who("fingerprint", value)),
    FINGERPRINTS.map(lambda value: Who("family", value)),
    NICKNAMES.map(lambda value: Who("nick", value.lower())),
    NETWORKS.map(lambda value: Who("net", value)),
    st.just(EVERYONE),
)
RULES = st.builds(
    Rule,
    allow=st.booleans(),
    who=WHO,
    mode=st.just("echo"),
    rate_limit_bytes=st.none() | st.integers(1, 4000).map(lambda quarters: quarters * 31_250),
    line=st.just(0),
)
RELAYS = st.lists(
    st.builds(
        lambda fingerprint, nickname, hosts, family, keys: make_relay(
            1,
            nickname,
            fingerprint=fingerprint,
            address=Address(hosts[0], 9001),
            more_addresses=tuple(Address(host, 9001) for host in hosts[1:]),
            family=tuple(sorted(family)),
            family_keys=tuple(sorted(keys)),
        ),
        FINGERPRINTS,
        NICKNAMES,
        st.lists(HOSTS, min_size=1, max_size=3),
        st.sets(FINGERPRINTS),
        st.sets(st.sampled_from([b"1", b"2", b"3"]), max_size=2),
    ),
    unique_by=lambda relay: relay.fingerprint,
)


def text_of(rule: Rule) -> str:
    rate = "" if rule.rate_limit_bytes is None else f" rate={rule.rate_limit_bytes / 125_000}"
    return f"{'allow' if rule.allow else 'deny'} {rule.who}{rate if rule.allow else ''}"


def in_family(relay: RelayInfo, head: str, known: Mapping[str, RelayInfo]) -> bool:
    if relay.fingerprint == head:
        return True
    if head not in known:
        return False
    mutual = head in relay.family and relay.fingerprint in known[head].family
    return mutual or any(key in known[head].family_keys for key in relay.family_keys)


def matches(rule: Rule, relay: RelayInfo, known: Mapping[str, RelayInfo]) -> bool:
    """As the grammar says it, rule by rule."""
    value = rule.who.value
    addresses = [relay.address, *(() if rule.allow else relay.more_addresses)]
    return {
        "*": lambda: True,
        "fingerprint": lambda: relay.fingerprint == value,
        "nick": lambda: relay.nickname.lower() == value,
        "family": lambda: in_family(relay, value, known),
        "net": lambda: any(ip_address(address.host) in ip_network(value) for address in addresses),
    }[rule.who.kind]()


@given(st.lists(RULES, max_size=30), RELAYS)
def test_the_first_rule_that_matches_decides(rules: list[Rule], relays: list[RelayInfo]) -> None:
    known = {str(relay.fingerprint): relay for relay in relays}
    resolved = RelayFilter(tuple(rules)).resolve(relays)
    for relay in relays:
        expected = next((rule for rule in rules if matches(rule, relay, known)), None)
        assert resolved.get(relay.fingerprint) is expected
    assert list(resolved) == [relay.fingerprint for relay in relays if relay.fingerprint in resolved]


@given(st.lists(RULES, max_size=30))
def test_text_and_rules_agree(rules: list[Rule]) -> None:
    found = RelayFilter.parse("\n".join(text_of(rule) for rule in rules), "x").rules
    assert [text_of(rule) for rule in found] == [text_of(rule) for rule in rules]
    assert [rule.line for rule in found] == list(range(1, len(rules) + 1))


WORDS = st.sampled_from(
    [
        *("allow", "deny", "*", "A" * 40, "$" + "b" * 40, "mode=echo", "mode=loop", "rate=8", "#", ""),
        *("nick:alpha", "family:" + "C" * 40, "net:::1", "net:10.0.0.0/8", "nick:", "family:", "net:"),
    ]
)


@given(st.text() | st.lists(st.lists(WORDS | st.text()).map(" ".join)).map("\n".join))
def test_any_text_is_a_filter_or_one_line_of_reason(text: str) -> None:
    try:
        found = RelayFilter.parse(text, "x")
    except UsageError as error:
        reason = error.reason
    else:
        reason = "x, line 0"
        assert all(rule.mode == "echo" or rule.who.kind == "fingerprint" for rule in found.rules)
    assert reason.startswith("x, line ")
    assert "\n" not in reason
