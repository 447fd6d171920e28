"""The relay filter's grammar, and which rule decides."""

from pathlib import Path

import pytest

from flashflow.directory.filter import MAX_FILE_BYTES, RelayFilter, Rule, load_filter
from flashflow.model.errors import UsageError
from flashflow.model.ids import Fingerprint

A, B, C = (Fingerprint(letter * 40) for letter in "ABC")


def parse(text: str) -> RelayFilter:
    return RelayFilter.parse(text, "relay_filter")


def test_nothing_is_measured_without_a_rule() -> None:
    for empty in (RelayFilter(), parse(""), parse("\n# nothing\n\n")):
        assert empty.match(A) is None


def test_the_shipped_example_measures_nothing() -> None:
    example = Path(__file__).parents[3] / "relay_filter.example"
    assert load_filter(example) == RelayFilter()


def test_rules() -> None:
    text = f"# ours\nallow {A} mode=loop rate=12.5\n\n  deny ${B.lower()}  # no\nallow * rate=8\nallow {C}\n"
    found = parse(text)
    assert found.rules == (
        Rule(True, A, "loop", 1_562_500, 2),
        Rule(False, B, "echo", None, 4),
        Rule(True, None, "echo", 1_000_000, 5),
        Rule(True, C, "echo", None, 6),
    )
    assert [found.match(relay) for relay in (A, B, C)] == [found.rules[place] for place in (0, 1, 2)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"allow {A}\ndeny {A}\n", 1),
        (f"deny {A}\nallow {A}\n", 1),
        (f"deny *\nallow {A}\n", 1),
        (f"deny {B}\nallow {A}\nallow *\n", 2),
        (f"deny {B}\nallow *\ndeny {A}\n", 2),
        ("allow *\ndeny *\n", 1),
    ],
)
def test_the_first_match_wins(text: str, line: int) -> None:
    rule = parse(text).match(A)
    assert rule is not None
    assert rule.line == line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("permit *", "expected allow or deny, got 'permit'"),
        ("ALLOW *", "expected allow or deny, got 'ALLOW'"),
        ("allow", "expected a fingerprint or * after allow"),
        ("deny # all", "expected a fingerprint or * after deny"),
        ("allow moria1", "not a relay fingerprint: 'moria1' (expected 40 hex digits)"),
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
        (b"allow *\r\nallow\r\n", ", line 2: expected a fingerprint or * after allow"),
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
