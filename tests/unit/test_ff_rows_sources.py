"""Calls that the original FlashFlow was broken by, or will be: none of them stands in our sources."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OUTDATED = {"get_event_loop", "utcfromtimestamp", "utcnow"}
"""Deprecated, and gone in a later Python."""


def faults(source: str) -> list[str]:
    """What is wrong with the calls of a module."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in OUTDATED:
            found.append(f"line {node.lineno}: {name}")
        if name == "SSLContext" and not node.args:
            found.append(f"line {node.lineno}: SSLContext without a protocol")
    return found


def test_no_outdated_call_stands_in_the_sources() -> None:
    files = [path for top in ("flashflow", "coordinator", "measurer") for path in (ROOT / top).rglob("*.py")]
    assert len(files) > 100
    assert {str(path): bad for path in files if (bad := faults(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nloop = asyncio.get_event_loop()",
        "datetime.utcfromtimestamp(1)",
        "context = ssl.SSLContext()",
    ],
)
def test_the_check_finds_them(source: str) -> None:
    assert len(faults(source)) == 1


def test_importing_the_services_starts_no_event_loop() -> None:
    """Nothing at a module's top level makes a loop, runs one, or keeps state of the service there."""
    for module in ("coordinator/app.py", "measurer/app.py", "flashflow/torclient/app.py"):
        tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign)]
        calls = [
            ast.unparse(call.func) for node in top for call in ast.walk(node) if isinstance(call, ast.Call)
        ]
        assert set(calls) <= {"logging.getLogger"}, module
