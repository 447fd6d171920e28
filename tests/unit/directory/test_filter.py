"""The relay filter's grammar, and which rule decides."""

from pathlib import Path
from typing import Any

import pytest

from flashflow.directory.filter import EVERYONE, MAX_FILE_BYTES, RelayFilter, Rule, Who, load_filter
from flashflow.model.errors import UsageError
from flashflow.model.ids import Address, Fingerprint
from flashflow.model.relay import RelayInfo
from support.coordinator_world import relay as make_relay

A, B, C, D = (Fingerprint(letter * 40) for letter in "ABCD")
WHO = "expected a fingerprint, nick:NAME, family:FINGERPRINT, net:NETWORK or *"


def parse(text: str) -> RelayFilter:
    return RelayFilter.parse(text, "relay_filter")


def relay(fingerprint: Fingerprint, nickname: str = "some", **changes: Any) -> RelayInfo:
    return make_relay(1, nickname, fingerprint=fingerprint, **changes)


def lines(text: str, *relays: RelayInfo) -> dict[str, int]:
    """First letter of each relay that a rule names -> line of the rule that decides."""
    return {fingerprint[0]: rule.line for fingerprint, rule in parse(text).resolve(relays).items()}


def test_nothing_is_measured_without_a_rule() -> None:
    for empty in (RelayFilter(), parse(""), parse("\n# nothing\n\n")):
        assert empty.resolve([relay(A)]) == {}


def test_the_shipped_example_measures_nothing() -> None:
    example = Path(__file__).parents[3] / "relay_filter.example"
    assert load_filter(example) == RelayFilter()


def test_the_shipped_examples_rules_are_rules() -> None:
    example = (Path(__file__).parents[3] / "relay_filter.example").read_text()
    commented = example.partition("# Examples:\n")[2]
    found = parse(commented.replace("#   ", ""))
    assert {rule.who.kind for rule in found.rules} == {"fingerprint", "nick", "family", "net", "*"}


def test_rules() -> None:
    text = f"# ours\nallow {A} mode=loop rate=12.5\n\n  deny ${B.lower()}  # no\nallow * rate=8\nallow {C}\n"
    found = parse(text)
    assert found.rules == (
        Rule(True, Who("fingerprint", A), "loop", 1_562_500, 2),
        Rule(False, Who("fingerprint", B), "echo", None, 4),
        Rule(True, EVERYONE, "echo", 1_000_000, 5),
        Rule(True, Who("fingerprint", C), "echo", None, 6),
    )
    resolved = found.resolve([relay(A), relay(B), relay(C)])
    assert list(resolved.items()) == list(zip((A, B, C), found.rules, strict=False))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"allow {A}\ndeny {A}\n", 1),
        (f"deny {A}\nallow {A}\n", 1),
        (f"deny *\nallow {A}\n", 1),
        (f"deny {B}\nallow {A}\nallow *\n", 2),
        (f"deny {B}\nallow *\ndeny {A}\n", 2),
        ("allow *\ndeny *\n", 1),
        (f"deny nick:other\nallow nick:SOME\nallow {A}\n", 2),
        (f"allow net:127.0.0.0/8\nallow {A}\n", 1),
        (f"allow {A}\nallow net:127.0.0.0/8\n", 1),
        (f"deny family:{B}\nallow family:{A}\nallow nick:some\n", 2),
        ("deny net:192.0.2.0/24\nallow net:127.0.0.1\nallow net:127.0.0.0/8\n", 2),
        ("deny net:192.0.2.0/24\nallow net:127.0.0.0/8\nallow net:127.0.0.1\n", 2),
        ("deny nick:other\ndeny net:::/0\nallow *\n", 3),
    ],
)
def test_the_first_match_wins(text: str, line: int) -> None:
    assert lines(text, relay(A, address=Address("127.0.0.1", 9001))) == {"A": line}


def test_nicknames_of_any_case_and_of_several_relays() -> None:
    relays = (relay(A, "Alpha"), relay(B, "ALPHA"), relay(C, "alphabet"))
    assert lines("allow nick:alpha", *relays) == {"A": 1, "B": 1}


def test_a_family_is_mutual() -> None:
    relays = (
        relay(A, family=(B, C, D)),
        relay(B, family=(A,)),
        relay(C, family=(B,)),  # names B, but not A
        relay(D),  # names nobody
    )
    assert lines(f"allow family:{A}", *relays) == {"A": 1, "B": 1}
    assert lines(f"allow family:{B}", *relays) == {"A": 1, "B": 1}
    assert lines(f"allow family:{C}", *relays) == {"C": 1}


def test_relays_that_share_a_family_key() -> None:
    one, other = b"1" * 32, b"2" * 32
    relays = (
        relay(A, family_keys=(one, other)),
        relay(B, family_keys=(one,)),
        relay(C, family_keys=(other,)),
    )
    assert lines(f"allow family:{A}", *relays, relay(D)) == {"A": 1, "B": 1, "C": 1}
    assert lines(f"allow family:{B}\nallow family:{C}", *relays, relay(D)) == {"A": 1, "B": 1, "C": 2}
    assert lines(f"deny family:{D}\nallow family:{A}", *relays, relay(D)) == {"A": 2, "B": 2, "C": 2, "D": 1}


def test_a_family_whose_head_is_unknown_is_nobody() -> None:
    assert lines(f"allow family:{B}", relay(A, family=(B,))) == {}


@pytest.mark.parametrize(
    ("network", "hosts"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("127.0.0.0/8", {"127.0.0.1", "127.255.255.255"}),
        ("0.0.0.0/0", {"127.0.0.1", "127.255.255.255", "192.0.2.1"}),
        ("::1", {"::1"}),
        ("2001:DB8::/32", {"2001:db8::7"}),
        ("::/0", {"::1", "2001:db8::7"}),
    ],
)
def test_networks(network: str, hosts: set[str]) -> None:
    every = ["127.0.0.1", "127.255.255.255", "192.0.2.1", "::1", "2001:db8::7"]
    for host in every:
        one = relay(A, address=Address(host, 9001))
        assert lines(f"allow net:{network}", one) == ({"A": 1} if host in hosts else {})


def test_a_network_denies_any_address_and_allows_the_one_that_is_measured() -> None:
    both = relay(A, address=Address("127.0.0.1", 9001), more_addresses=(Address("::1", 9001),))
    assert lines("deny net:::1\nallow *", both) == {"A": 1}
    assert lines("allow net:::1\ndeny *", both) == {"A": 2}
    assert lines("allow net:127.0.0.0/8\ndeny net:::1", both) == {"A": 1}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("permit *", "expected allow or deny, got 'permit'"),
        ("ALLOW *", "expected allow or deny, got 'ALLOW'"),
        ("allow", f"{WHO} after allow"),
        ("deny # all", f"{WHO} after deny"),
        ("allow moria1", "'moria1' (expected 40 hex digits); a nickname is written nick:NAME"),
        ("allow nick:", "nick: expected 1 to 19 letters and digits, got ''"),
        ("allow nick:not-a-name", "nick: expected 1 to 19 letters and digits, got 'not-a-name'"),
        (f"allow nick:{'n' * 20}", "nick: expected 1 to 19 letters and digits"),
        ("allow family:moria1", "not a relay fingerprint: 'moria1'"),
        ("allow net:example.org", "net: expected a network such as 192.0.2.0/24"),
        ("allow net:192.0.2.1/24", "without bits beyond its length, got '192.0.2.1/24'"),
        ("allow net:192.0.2.0/33", "net: expected a network"),
        ("allow net:", "net: expected a network"),
        ("allow 192.0.2.0/24", "not a relay fingerprint: '192.0.2.0/24'"),
        ("allow 2001:db8::/32", f"{WHO}, got '2001:db8::/32'"),
        (f"allow NICK:{A}", f"{WHO}, got 'NICK:"),
        (f"allow {A}A", "(expected 40 hex digits)"),
        (f"allow {A} echo", "expected mode=echo|loop or rate=MBIT, got 'echo'"),
        (f"allow {A} limit=3", "expected mode=echo|loop or rate=MBIT, got 'limit=3'"),
        (f"allow {A} mode=fast", "mode: expected echo or loop, got 'fast'"),
        (f"allow {A} mode=", "mode: expected echo or loop, got ''"),
        (f"allow {A} mode=echo mode=echo", "mode stands twice"),
        (f"allow {A} rate=x", "rate: expected Mbit/s from 0.01 to 1000000, got 'x'"),
        (f"allow {A} rate=0", "rate: expected Mbit/s from 0.01"),
        (f"allow {A} rate=-5", "rate: expected Mbit/s from 0.01"),
        (f"allow {A} rate=nan", "rate: expected Mbit/s from 0.01"),
        (f"allow {A} rate=inf", "rate: expected Mbit/s from 0.01"),
        (f"allow {A} rate=1e7", "rate: expected Mbit/s from 0.01"),
        (f"deny {A} rate=5", "expected nothing after the relay that is denied"),
        ("allow * mode=loop", "mode=loop: expected a full fingerprint"),
        ("allow nick:moria1 mode=loop", "mode=loop: expected a full fingerprint"),
        (f"allow family:{A} mode=loop", "mode=loop: expected a full fingerprint"),
        ("allow net:192.0.2.1 mode=loop", "mode=loop: expected a full fingerprint"),
    ],
)
def test_refused_with_file_line_and_expectation(line: str, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(f"# first\nallow {B}\n{line}\n")
    assert caught.value.reason.startswith("relay_filter, line 3: ")
    assert expected in caught.value.reason
    assert "\n" not in caught.value.reason


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"allow *\ndeny \xff\n", ", line 2: not a relay filter: not UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), ": not a relay filter: larger than 16777216 bytes"),
        (b"allow *\r\nallow\r\n", f", line 2: {WHO} after allow"),
    ],
)
def test_files_that_are_no_filter(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "relay_filter"
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        load_filter(path)
    assert caught.value.reason == f"{path}{expected}"


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the relay filter: No such file") as caught:
        load_filter(tmp_path / "relay_filter")
    assert caught.value.exit_status == 2
