"""`python -m tests.fuzz.one TARGET [libFuzzer options]`: one target in a process of its own, which libFuzzer ends."""

import sys

import atheris  # type: ignore[import-not-found,unused-ignore]  # requirements/fuzz.lock

with atheris.instrument_imports(include=["flashflow", "coordinator"], enable_loader_override=False):
    from tests.fuzz.targets import TARGETS, run

target = TARGETS[sys.argv[1]]
atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: run(target, data))
atheris.Fuzz()
