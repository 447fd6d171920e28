"""`python -m flashflow.directory.launch COMMAND…`: becomes COMMAND, which then ends when the parent ends.

tor knows nothing of FLASHFLOW_PARENT, so the kernel is asked before tor begins; what tor prints goes to stderr, since
the service's stdout is for its `ready` line.
"""

import os
import sys

from flashflow.shell.parent import follow_parent


def main(command: list[str]) -> int:
    """Only comes back, with an exit status, if the command cannot be run."""
    follow_parent()
    os.dup2(2, 1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"error: cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
