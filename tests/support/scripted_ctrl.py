"""A coordinator's control socket that answers from a script, for tests of the client."""

import socket
import threading
from collections.abc import Mapping
from pathlib import Path

from flashflow.ctrl.access import Access
from flashflow.model.ids import Address

COOKIE = bytes(range(32))


class ScriptedCtrl:
    """Listens on `host`; each command line gets the bytes that `answers` has for it, else the connection closes."""

    def __init__(self, folder: Path, answers: Mapping[str, bytes], host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self._answers = {f"AUTHENTICATE {COOKIE.hex()}": b"OK {}\n", **answers}
        self.received: list[str] = []
        cookie_file = folder / "control_auth_cookie"
        cookie_file.write_bytes(COOKIE)
        self.access = Access(Address(host, self._listener.getsockname()[1]), cookie_file)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def options(self) -> list[str]:
        """What tells `flashflow ctrl` where this is."""
        return ["--addr", str(self.access.address), "--cookie", str(self.access.cookie_file)]

    def close(self) -> None:
        """Stop listening; a connection that is open ends with the client's."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    self.received.append(line.decode().rstrip("\n"))
                    answer = self._answers.get(self.received[-1])
                    if answer is None:
                        break
                    connection.sendall(answer)
