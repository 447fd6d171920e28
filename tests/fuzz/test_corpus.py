"""The fuzzer's corpus, without the fuzzer: seeds and findings, whole, cut off anywhere, and with more behind them."""

import ast
from pathlib import Path

import pytest

from tests.fuzz.targets import CORPUS, TARGETS, run

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(CORPUS.glob("*/*"))
PORTIONS = 24
"""How many places a file is cut at."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_input_raises_anything_but_our_own_errors(path: Path) -> None:
    target, data = TARGETS[path.parent.name], path.read_bytes()
    run(target, data)
    for cut in range(0, len(data), max(1, len(data) // PORTIONS)):
        run(target, data[:cut])
    for trailing in (b"\0", b"\n", b"\xff" * 9, data[:64]):
        run(target, data + trailing)


def test_each_target_has_seeds_and_no_folder_is_left_over() -> None:
    assert {path.parent.name for path in FILES} == set(TARGETS)


def test_a_planted_bug_is_found() -> None:
    def parser(data: bytes) -> None:
        if data[:2] == b"FF":
            raise IndexError

    run(parser, b"")
    with pytest.raises(IndexError):
        run(parser, b"FF")


PARSES = ("parse_", "read_", "verify_", "receive", "feed")
NOT_FROM_OUTSIDE = {
    "flashflow/torclient/core/messages.py": "our own worker processes",
    "flashflow/orlink/keys.py": "our own key files",
}


def test_every_module_of_codecs_is_under_the_fuzzer() -> None:
    """A new codec in the pure folders is named by a target, or by its reason."""
    reached = (ROOT / "tests" / "fuzz" / "targets.py").read_text()
    for folder in ("flashflow/orlink", "flashflow/wire", "flashflow/torctl"):
        for path in sorted((ROOT / folder).glob("*.py")):
            names = [
                node.name
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.FunctionDef) and node.name.startswith(PARSES)
            ]
            module = path.relative_to(ROOT).as_posix()
            if names and module not in NOT_FROM_OUTSIDE:
                assert path.stem in reached or path.stem in INSIDE, f"{module}: {names}"


INSIDE = {
    "authenticate",  # by handshake
    "link",  # by handshake
    "ntor",  # by no target: fixed sizes, tests/property/test_orlink_codecs.py
    "relaycrypto",  # the same
    "framing",  # by frames
    "messages",  # by frames
    "outbox",
    "arguments",  # by control_lines
    "lines",  # by control_lines
    "stem_events",  # by control_events
}
"""Modules that are reached through another one."""
