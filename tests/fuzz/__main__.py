"""`python -m tests.fuzz [TARGET …] [--seconds N]`: fuzzes each target for so long; what is found is kept in the corpus.

Inputs that reach something new go to a folder that is removed at the end; `--keep` merges the smallest of them into the
corpus. A finding is written to corpus/TARGET/found-…, and the exit status is 1.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile

from tests.fuzz.targets import CORPUS, TARGETS

MAX_BYTES = 16_384
SLOW_S = 10
MEMORY_MB = 2048


def fuzz(name: str, seconds: int, *, keep: bool) -> bool:
    """Whether nothing was found."""
    corpus = CORPUS / name
    with tempfile.TemporaryDirectory() as new:
        limits = [f"-max_len={MAX_BYTES}", f"-timeout={SLOW_S}", f"-rss_limit_mb={MEMORY_MB}"]
        found = f"-artifact_prefix={corpus}/found-"
        command = [sys.executable, "-m", "tests.fuzz.one", name]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        done = subprocess.run(
            [*command, f"-max_total_time={seconds}", *limits, found, new, str(corpus)], check=False, **quiet
        )
        last = [line for line in done.stderr.splitlines() if "#" in line and "cov:" in line][-1:]
        print(f"{name}: {last[0].strip() if last else 'no figures'}", flush=True)
        if done.returncode:
            print(done.stderr[-3000:])
        elif keep:
            subprocess.run([*command, "-merge=1", *limits, str(corpus), new], check=True, **quiet)
    return done.returncode == 0


def main() -> int:
    """Fuzz what the command line names; the exit status."""
    parser = argparse.ArgumentParser(
        prog="make fuzz ARGS=...", description="Fuzz the parsers of outside bytes."
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=20, help="for each target (20)")
    parser.add_argument(
        "--keep", action="store_true", help="merge what reaches something new into the corpus"
    )
    options = parser.parse_args()
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("atheris") is None:
        print(
            "atheris is not installed: it has no wheel for this Python (make fuzz needs 3.11 to 3.13)",
            file=sys.stderr,
        )
        return 69
    results = [fuzz(name, options.seconds, keep=options.keep) for name in options.targets or TARGETS]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
