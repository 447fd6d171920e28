"""`make bench`: every benchmark, its figures into benchmarks/results.json with commit and CPU; exit 1 on a missed limit."""

import json
import platform
import subprocess
import sys
from pathlib import Path

from benchmarks import coordinator, echo, far_end, schedule, strangers

RESULTS = Path(__file__).parent / "results.json"
BENCHMARKS = {
    "echo": echo.measure,
    "far_end": far_end.measure,
    "coordinator": coordinator.measure,
    "strangers": strangers.measure,
    "schedule": schedule.measure,
}


def main(names: list[str]) -> int:
    """Run the benchmarks named, or all."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(
            f"no such benchmark: {', '.join(sorted(unknown))} (there are {', '.join(BENCHMARKS)})",
            file=sys.stderr,
        )
        return 2
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    missed = []
    for name in names or BENCHMARKS:
        figures, problems = BENCHMARKS[name]()
        results[name] = {
            "commit": commit(),
            "cpu": cpu_model(),
            "python": platform.python_version(),
            **figures,
        }
        print(json.dumps({name: results[name]}, indent=2))
        missed += [f"{name}: {problem}" for problem in problems]
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    for line in missed:
        print(f"limit missed: {line}", file=sys.stderr)
    return 1 if missed else 0


def commit() -> str:
    """The checkout's commit, marked if the work tree differs."""
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def cpu_model() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
