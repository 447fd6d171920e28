"""`python -m flashflow.torclient.workers [FILE.pem]`: one worker; its control socket is its standard input."""

import os
import signal
import socket
import sys
from pathlib import Path

from flashflow.shell.parent import follow_parent
from flashflow.torclient.workers.loop import Worker


def main() -> None:
    """Serve until the control process closes its end."""
    follow_parent()
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the whole group; the control process decides
    tls_key = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with socket.socket(fileno=os.dup(0)) as control:
        Worker(control, tls_key).run()


main()
