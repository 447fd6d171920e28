"""The layers of docs/architecture.md and the purity of the pure folders, read from the sources' syntax trees."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TIERS: tuple[tuple[str, ...], ...] = (
    ("flashflow", "flashflow.model"),
    ("flashflow.wire", "flashflow.orlink", "flashflow.torctl"),
    (
        "flashflow.shell",
        "flashflow.torclient",
        "flashflow.relay",
        "flashflow.directory",
        "flashflow.pipeline",
        "flashflow.store",
        "flashflow.config",
        "flashflow.keys",
    ),
    ("coordinator", "measurer"),
    ("flashflow.ctrl", "flashflow.testnet"),
    ("flashflow.demo",),
    ("flashflow.cli",),
)
"""Packages from the bottom up: one may import of its own tier and those below."""

APART = (("coordinator", "measurer"), ("flashflow.torclient", "flashflow.relay"))
"""Programs that only meet over a wire: neither imports the other."""

PURE = (
    *("flashflow.model", "flashflow.wire", "flashflow.orlink", "flashflow.torctl"),
    *("flashflow.directory.filter", "flashflow.store.latest"),
)
"""Pure packages and modules, beside every `core`."""

CONCURRENCY = {
    "asyncio",
    "concurrent",
    "multiprocessing",
    "selectors",
    "signal",
    "subprocess",
    "threading",
    "uvloop",
}
OUTSIDE = {
    "http",
    "importlib",
    "io",
    "os",
    "psutil",
    "rich",
    "shutil",
    "socket",
    "sqlalchemy",
    "sqlite3",
    "ssl",
}
OTHERS = {"OpenSSL", "stem", "tempfile", "typer", "urllib", "random", "secrets", "time", "uuid"}
BANNED = CONCURRENCY | OUTSIDE | OTHERS
"""What a pure module may not import: I/O, clocks, entropy."""

CLOCK_READS = frozenset({"now", "utcnow", "today"})
"""Methods of datetime and date that read a clock."""

EXCEPTIONS = {"flashflow.torctl.stem_events": {"stem"}}
"""Module -> banned modules that it is there for."""


def sources() -> dict[str, Path]:
    """Dotted module name -> file, for every module of the three packages."""
    found = {}
    for top in ("flashflow", "coordinator", "measurer"):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


SOURCES = sources()


def tree_of(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"), str(SOURCES[module]))


def imports(module: str) -> Iterator[str]:
    """Dotted names that a module imports, with the names taken from a package where they are modules themselves."""
    is_package = SOURCES[module].name == "__init__.py"
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            yield base
            yield from (f"{base}.{a.name}" for a in node.names if f"{base}.{a.name}" in SOURCES)


def package_of(name: str) -> str | None:
    """The package of ours that a dotted name belongs to, as TIERS names it; None for others' modules."""
    parts = name.split(".")
    if parts[0] in ("coordinator", "measurer"):
        return parts[0]
    if parts[0] != "flashflow":
        return None
    path = ROOT.joinpath(*parts[:2])
    return ".".join(parts[:2]) if len(parts) > 1 and path.is_dir() else "flashflow"


def tier_of(package: str) -> int:
    for number, packages in enumerate(TIERS):
        if package in packages:
            return number
    raise AssertionError(f"{package} has no tier: give it one here and in docs/architecture.md")


def is_pure(module: str) -> bool:
    return "core" in module.split(".")[:-1] or any(module == p or module.startswith(p + ".") for p in PURE)


def pure_modules() -> list[str]:
    return [m for m in SOURCES if is_pure(m) or m.endswith(".core")]


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 20
    assert len(pure_modules()) > 5


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_imports_a_higher_layer(module: str) -> None:
    own = package_of(module)
    assert own is not None
    too_high = {
        name
        for name in imports(module)
        if (package := package_of(name)) is not None and package != own and tier_of(package) > tier_of(own)
    }
    assert not too_high


def test_programs_that_meet_over_a_wire_do_not_import_each_other() -> None:
    met = set()
    for module in SOURCES:
        for name in imports(module):
            met.add((package_of(module), package_of(name)))
    for one, other in APART:
        assert (one, other) not in met
        assert (other, one) not in met


def test_packages_import_each_other_in_one_direction_only() -> None:
    graph: dict[str, set[str]] = {}
    for module in SOURCES:
        own = package_of(module) or ""
        for name in imports(module):
            package = package_of(name)
            if package not in (None, own, "flashflow"):
                graph.setdefault(own, set()).add(package or "")
    while leaves := {p for ps in graph.values() for p in ps} - graph.keys():
        graph = {own: rest for own, ps in graph.items() if (rest := ps - leaves)}
    assert not graph, f"packages that import each other in a circle: {graph}"


def test_the_pipeline_knows_nothing_of_tor() -> None:
    for module in SOURCES:
        if package_of(module) == "flashflow.pipeline":
            for name in imports(module):
                ours = package_of(name)
                assert ours in ("flashflow.pipeline", "flashflow.model") or (
                    ours is None and name.split(".")[0] in sys.stdlib_module_names
                ), f"{module} imports {name}"


@pytest.mark.parametrize("module", pure_modules())
def test_pure_modules_import_no_io_clock_or_entropy(module: str) -> None:
    allowed = EXCEPTIONS.get(module, set())
    assert not {name for name in imports(module) if name.split(".")[0] in BANNED - allowed}


@pytest.mark.parametrize("module", pure_modules())
def test_pure_modules_import_only_pure_modules_of_ours(module: str) -> None:
    ours = {n for n in imports(module) if n in SOURCES and SOURCES[n].name != "__init__.py"}
    assert not {n for n in ours if not is_pure(n)}


@pytest.mark.parametrize("module", pure_modules())
def test_pure_modules_read_no_clock_and_open_no_file(module: str) -> None:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Call):
            assert not (isinstance(node.func, ast.Name) and node.func.id in ("open", "input", "__import__"))
            if isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_READS:
                assert ast.unparse(node.func.value).split(".")[-1] not in ("datetime", "date"), ast.unparse(
                    node
                )


@pytest.mark.parametrize("module", pure_modules())
def test_pure_modules_never_iterate_over_sets(module: str) -> None:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.For | ast.comprehension):
            over = node.iter
            is_set = isinstance(over, ast.Set | ast.SetComp) or (
                isinstance(over, ast.Call)
                and isinstance(over.func, ast.Name)
                and over.func.id in ("set", "frozenset")
            )
            assert not is_set, f"the order of {ast.unparse(over)} changes from run to run"
