"""A relay, honest or not, in a thread of the test's own process: quicker to start than a process."""

import threading
from pathlib import Path
from types import TracebackType

from flashflow.model.ids import Address
from flashflow.orlink.keys import RelayKeys
from flashflow.relay.core.admission import AdmissionRules
from flashflow.relay.server import RelayServer
from flashflow.relay.settings import RelaySettings
from support.orlink_keys import relay_keys

STOP_S = 10.0
ANY_PORT = Address("127.0.0.1", 0)


class RelayThread:
    """What a client of the relay needs to know is named as in RelayProcess."""

    def __init__(
        self,
        kind: type[RelayServer],
        folder: Path,
        coordinator: bytes,
    ) -> None:
        rules = AdmissionRules(frozenset({coordinator}), max_per_period=1000)
        self.counts = folder / "counts"
        self.keys: RelayKeys = relay_keys()
        self.fingerprint = self.keys.identity.rsa_fingerprint.hex().upper()
        self._server = kind(
            RelaySettings(folder, "tester", (ANY_PORT,), rules, counts=self.counts), self.keys
        )
        [self.address] = self._server.listen()
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> "RelayThread":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        self._thread.join(STOP_S)
        assert not self._thread.is_alive()
