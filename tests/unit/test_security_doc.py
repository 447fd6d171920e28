"""docs/security.md is true in form: each test that it names stands in the file that it names, or in its table's."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
_NAMED = re.compile(r"`(?:[\w/]*/)?(test_\w+\.py)::(test_\w+)")
_ALONE = re.compile(r"`(test_\w+)`")


def text_of(file: str) -> str:
    """The text of the test files of that name; empty if there is none."""
    return "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob(file)))


def missing(text: str) -> list[str]:
    """The tests named in a text that are not there."""
    named = _NAMED.findall(text) + [("test_*.py", name) for name in _ALONE.findall(text)]
    return [f"{file}::{name}" for file, name in named if f"def {name}(" not in text_of(file)]


def test_each_test_that_it_names_exists() -> None:
    assert missing(TEXT) == []


def test_one_that_does_not_exist_would_be_found() -> None:
    assert missing("| x | y | `tests/unit/test_security_doc.py::test_nothing`, `test_nor_this` |") == [
        "test_security_doc.py::test_nothing",
        "test_*.py::test_nor_this",
    ]
