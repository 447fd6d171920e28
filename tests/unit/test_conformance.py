"""docs/conformance.md is complete and true in form: each row once, each test that it names exists."""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "conformance.md"

DEFECTS = frozenset(f"FF-{n}" for n in range(201, 229)) | {"SRV-06", "SRV-07", "SRV-19", "SRV-22"}
DEFECTS |= {f"LNK-{n:02}" for n in (5, 18, 26, 34, 36, 37, 38, 41)}
"""What the original FlashFlow, and the systems whose worker pools and link layer we took up, did wrong."""
REQUIRED = (
    DEFECTS
    | {f"FF-{n:02}" for n in (*range(1, 41), *range(81, 88), *range(101, 135))}
    | {f"SRV-{n:02}" for n in range(1, 25)}
    | {f"LNK-{n:02}" for n in range(1, 50)}
)
"""The rows that must be there."""
MOST_STRUCTURAL = 6
"""Most defects that may rest on the design instead of a test."""

_ROW = re.compile(r"\| ((?:FF|SRV|LNK)-\d+) \| (.*) \|")
_QUOTED = re.compile(r"`([^`]*)`")
_TEST = re.compile(r"(tests/[\w/]+\.py)::(test_\w+)(?:\[[^\]]*\])?")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    name: str
    """`FF-…`, `SRV-…` or `LNK-…`."""
    behaviour: str
    """What FlashFlow does, in words."""
    shown: str
    """Tests, `not built: …` or `structural: …`, separated by `; `."""


def read_rows(text: str) -> list[Row]:
    """The rows of every table, in order."""
    found = []
    for line in text.splitlines():
        if match := _ROW.fullmatch(line):
            behaviour, _, shown = match[2].partition(" | ")
            found.append(Row(match[1], behaviour.strip(), shown.strip()))
    return found


@cache
def collected_of(path: Path) -> frozenset[str]:
    """The test functions that stand in a file, as pytest collects them."""
    if not path.is_file():
        return frozenset()
    body = list(ast.parse(path.read_text(encoding="utf-8")).body)
    body += [
        node
        for one in body
        if isinstance(one, ast.ClassDef) and one.name.startswith("Test")
        for node in one.body
    ]
    return frozenset(
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def faults_of(row: Row) -> list[str]:
    """What is wrong with one row."""
    found = [] if row.behaviour else [f"{row.name}: no behaviour"]
    for part in row.shown.split("; "):
        quoted = _QUOTED.findall(part)
        if part.startswith("not built: "):
            found += [] if len(part) > 30 else [f"{row.name}: no reason: {part!r}"]
        elif part.startswith("structural: "):
            found += _structural_faults(row, quoted)
        elif not quoted:
            found.append(f"{row.name}: neither a test nor a reason: {part!r}")
        else:
            found += [f"{row.name}: no such test: {name}" for name in quoted if not _is_test(name)]
    return found


def _structural_faults(row: Row, quoted: list[str]) -> list[str]:
    found = [] if row.name in DEFECTS else [f"{row.name}: only a defect may be structural"]
    if not any((ROOT / name).is_file() for name in quoted):
        found.append(f"{row.name}: a structural reason names the file that it rests on")
    return found


def _is_test(name: str) -> bool:
    match = _TEST.fullmatch(name)
    return match is not None and match[2] in collected_of(ROOT / match[1])


def faults(text: str) -> list[str]:
    """Everything that is wrong with the document; empty if it is in order."""
    rows = read_rows(text)
    names = [row.name for row in rows]
    found = [fault for row in rows for fault in faults_of(row)]
    found += [f"{name}: missing" for name in sorted(REQUIRED - set(names))]
    found += [
        f"{name}: stands {names.count(name)} times" for name in sorted(set(names)) if names.count(name) > 1
    ]
    lost = [
        line
        for line in text.splitlines()
        if line.startswith(("| FF-", "| SRV-", "| LNK-")) and not _ROW.fullmatch(line)
    ]
    found += [f"not a row: {line[:60]}" for line in lost]
    structural = [row.name for row in rows if row.name in DEFECTS and "structural: " in row.shown]
    if len(structural) > MOST_STRUCTURAL:
        found.append(f"{len(structural)} defects are structural (at most {MOST_STRUCTURAL}): {structural}")
    unshown = [row.name for row in rows if row.name in DEFECTS and row.shown.startswith("not built: ")]
    found += [f"{name}: a defect needs a test or a structural reason" for name in unshown]
    return found


@pytest.fixture(scope="module")
def document() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


def test_every_row_is_there_and_every_test_it_names_exists(document: str) -> None:
    assert faults(document) == []


def test_it_names_no_place_of_one_machine(document: str) -> None:
    assert re.findall(r"(?<![\w`.])/(?:work|home|root|tmp|usr|var)\b\S*", document) == []


GOOD = "tests/unit/test_conformance.py::test_a_document_in_order_has_no_faults"


def small(shown: str, name: str = "FF-201") -> str:
    """A document with all rows, each shown by a test of this file, but `name` shown by `shown`."""
    return "\n".join(
        f"| {row} | it works | {shown if row == name else f'`{GOOD}`'} |" for row in sorted(REQUIRED)
    )


def structural(count: int) -> str:
    """A document in which `count` defects are structural."""
    text = small(f"`{GOOD}`")
    for n in range(201, 201 + count):
        text = text.replace(
            f"| FF-{n} | it works | `{GOOD}` |",
            f"| FF-{n} | it works | structural: it cannot be, `flashflow/wire/framing.py` |",
        )
    return text


def test_a_document_in_order_has_no_faults() -> None:
    assert faults(small(f"`{GOOD}`, `{GOOD}`")) == []
    assert faults(small(f"`{GOOD}`; not built: the rest is of no use to anyone here")) == []
    assert faults(structural(MOST_STRUCTURAL)) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (small(f"`{GOOD}_at_all`"), f"FF-201: no such test: {GOOD}_at_all"),
        (small(f"`{GOOD}`, `{GOOD}s`"), f"FF-201: no such test: {GOOD}s"),
        (small(f"`{GOOD.replace('conformance', 'conformity')}`"), "FF-201: no such test: "),
        (small("`tests/unit/test_conformance.py`"), "FF-201: no such test: "),
        (small("`tests/unit/test_conformance.py::faults`"), "FF-201: no such test: "),
        (small("a test shows it"), "FF-201: neither a test nor a reason"),
        (small(""), "FF-201: neither a test nor a reason"),
        (small("not built: later", "FF-14"), "FF-14: no reason"),
        (small("not built: there was no time for it, sorry"), "FF-201: a defect needs a test"),
        (small("structural: it cannot be"), "FF-201: a structural reason names the file"),
        (small("structural: `flashflow/no/such.py`"), "FF-201: a structural reason names the file"),
        (small("structural: see `flashflow/wire/framing.py`", "FF-14"), "FF-14: only a defect"),
        (small(f"`{GOOD}`") + f"\n| FF-14 | again | `{GOOD}` |", "FF-14: stands 2 times"),
        (small(f"`{GOOD}`").replace("| FF-87 |", "| FF-88 |"), "FF-87: missing"),
        (small(f"`{GOOD}`") + "\n| FF-300 |", "not a row: | FF-300 |"),
        (small(f"`{GOOD}`") + "\n| SRV-30 |", "not a row: | SRV-30 |"),
        (small(f"`{GOOD}`").replace("| SRV-24 |", "| SRV-25 |"), "SRV-24: missing"),
        (small("not built: there was no time for it, sorry", "SRV-06"), "SRV-06: a defect needs a test"),
        (structural(MOST_STRUCTURAL + 1), "7 defects are structural (at most 6)"),
    ],
)
def test_what_is_wrong_is_found(text: str, fault: str) -> None:
    (found,) = faults(text)
    assert found.startswith(fault)
