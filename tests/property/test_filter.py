"""The relay filter against a plain search, and against any text."""

from hypothesis import given
from hypothesis import strategies as st

from flashflow.directory.filter import RelayFilter, Rule
from flashflow.model.errors import UsageError
from flashflow.model.ids import Fingerprint

FINGERPRINTS = st.sampled_from([Fingerprint(digit * 40) for digit in "0123456789ABCDEF"])
RULES = st.builds(
    Rule,
    allow=st.booleans(),
    fingerprint=st.none() | FINGERPRINTS,
    mode=st.just("echo"),
    rate_limit_bytes=st.none() | st.integers(1, 4000).map(lambda quarters: quarters * 31_250),
    line=st.just(0),
)


def text_of(rule: Rule) -> str:
    rate = "" if rule.rate_limit_bytes is None else f" rate={rule.rate_limit_bytes / 125_000}"
    return f"{'allow' if rule.allow else 'deny'} {rule.fingerprint or '*'}{rate if rule.allow else ''}"


@given(st.lists(RULES, max_size=30), FINGERPRINTS)
def test_match_is_the_first_rule_for_the_relay_or_all(rules: list[Rule], relay: Fingerprint) -> None:
    expected = next((rule for rule in rules if rule.fingerprint in (None, relay)), None)
    assert RelayFilter(tuple(rules)).match(relay) is expected


@given(st.lists(RULES, max_size=30))
def test_text_and_rules_agree(rules: list[Rule]) -> None:
    found = RelayFilter.parse("\n".join(text_of(rule) for rule in rules), "x").rules
    assert [text_of(rule) for rule in found] == [text_of(rule) for rule in rules]
    assert [rule.line for rule in found] == list(range(1, len(rules) + 1))


WORDS = st.sampled_from(
    ["allow", "deny", "*", "A" * 40, "$" + "b" * 40, "mode=echo", "mode=loop", "rate=8", "#", ""]
)


@given(st.text() | st.lists(st.lists(WORDS | st.text()).map(" ".join)).map("\n".join))
def test_any_text_is_a_filter_or_one_line_of_reason(text: str) -> None:
    try:
        found = RelayFilter.parse(text, "x")
    except UsageError as error:
        reason = error.reason
    else:
        reason = "x, line 0"
        assert all(rule.mode == "echo" or rule.fingerprint for rule in found.rules)
    assert reason.startswith("x, line ")
    assert "\n" not in reason
