"""The command `flashflow`: one file per subcommand, imported only when it is called.

Each module has `app`, a typer application of one command or a group. An error of ours becomes one line on stderr and
its exit status: 2 usage or configuration, 1 failure, 130/143 signals. Anything else is a bug and keeps its traceback.
"""

import importlib
import signal
import sys
from collections.abc import Sequence

from flashflow import __version__
from flashflow.model.errors import FlashFlowError
from flashflow.shell.parent import follow_parent

COMMANDS = {
    "coord": "run the coordinator (a service)",
    "measurer": "run a measurer (a service)",
    "ctrl": "talk to a running coordinator: measure, status, results …",
    "demo": "measure a small deployment on this machine, start to end",
    "init": "make a directory with configuration and keys: init coord|measurer DIR",
    "keygen": "make a certificate and its key: keygen coord|measurer NAME",
    "config": "check a configuration file: config check FILE",
    "torclient": "FlashFlow's own Tor client (started by coord and measurer)",
    "relay": "reference relay for tests and research",
    "simulate": "how long a network takes to measure, by the real schedule, without traffic",
}
"""Subcommand -> what it does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args[:1] == ["--version"]:
        print(f"flashflow {__version__}")
        return 0
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if args[0] not in COMMANDS:
        print(f"flashflow: no such command: {args[0][:40]!r} (see flashflow --help)", file=sys.stderr)
        return 2
    follow_parent()
    return _run(args[0], args[1:])


def _run(name: str, args: list[str]) -> int:
    try:
        module = importlib.import_module(f"flashflow.cli.{name}")
        module.app(args=args, prog_name=f"flashflow {name}")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except FlashFlowError as error:
        print(f"flashflow {name}: {error.reason}", file=sys.stderr)
        return error.exit_status
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("flashflow", "coordinator", "measurer"):
            raise
        print(
            f"flashflow {name}: Python package {error.name} is missing (pip install 'flashflow[demo]')",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _help() -> str:
    rows = "\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())
    return f"usage: flashflow [--version] COMMAND ...\n\n{rows}\n\nflashflow COMMAND --help tells more."
