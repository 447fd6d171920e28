"""The reference relay's process: its core, its measurements, its rate limit and its counts, over the links."""

import logging
import os
import socket
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from flashflow.model.clock import Now
from flashflow.model.ids import Address
from flashflow.model.units import from_mbps
from flashflow.orlink.authenticate import AuthSecrets
from flashflow.orlink.keys import RelayKeys, make_link_certificate
from flashflow.orlink.link import ResponderHandshake
from flashflow.relay.accepted import ACCEPTED_FILE, load_accepted, save_accepted
from flashflow.relay.celllink import CellLink
from flashflow.relay.circuits import Services
from flashflow.relay.core.effects import Role
from flashflow.relay.core.events import LinkLost
from flashflow.relay.core.state import State
from flashflow.relay.counting import Counter, CountsFile
from flashflow.relay.echo import Echo
from flashflow.relay.link import Link
from flashflow.relay.measuring import BackgroundMeter, Measuring
from flashflow.relay.serving import LinkServer, read_now
from flashflow.relay.settings import RelaySettings
from flashflow.relay.tls import TlsStream, server_context

log = logging.getLogger(__name__)

MAX_STRANGERS: Final = 512
"""Links of no role; one more and the oldest of them goes."""
RATE_FILE: Final = "rate_mbps"
_DAY_S: Final = 86_400.0


class RelayServer(LinkServer[Link]):
    """One relay. What tests replace in order to cheat: the make_* methods and `role_changed`."""

    max_strangers = MAX_STRANGERS

    def __init__(self, settings: RelaySettings, keys: RelayKeys) -> None:
        now = read_now()
        super().__init__(settings.rate_bytes, now)
        self.settings: Final = settings
        self.keys: Final = keys
        self.link_certificate: Final = make_link_certificate(now.utc_s - 2 * _DAY_S, now.utc_s + 30 * _DAY_S)
        self._context = server_context(self.link_certificate)
        self._counter = self.make_counter()
        self._counts = CountsFile(settings.counts, self._counter, now)
        self._measuring = Measuring(
            self.make_core(),
            self,
            settings.background_ratio,
            lambda: self._readers.bucket.rate_bytes,
            self.make_meter(),
            read_now,
            partial(save_accepted, settings.data_dir / ACCEPTED_FILE),
        )
        self.services: Final = self._make_services()

    def make_core(self) -> State:
        """The core that decides about measurements. LocalError if what it must know cannot be read."""
        return State(self.settings.rules, load_accepted(self.settings.data_dir / ACCEPTED_FILE, read_now()))

    def make_counter(self) -> Counter:
        """What counts bytes on the sockets."""
        return Counter()

    def make_meter(self) -> BackgroundMeter:
        """What counts background traffic for the reports."""
        return BackgroundMeter()

    def make_echo(self) -> Echo:
        """What answers runs of cells."""
        return Echo()

    def make_handshake(self, link: CellLink) -> ResponderHandshake:
        """The link handshake for a new link."""
        return ResponderHandshake(
            keys=self.keys,
            link_certificate_der=self.link_certificate.certificate_der,
            peer_ip=link.host,
            own_ips=[address.host for address in self.settings.listen],
            auth_challenge=os.urandom(32),
            now_utc_s=time.time(),
            tls_secrets=AuthSecrets(link.stream.export),
        )

    def make_link(self, number: int, host: str, sock: socket.socket) -> Link:
        """A link of a stranger's."""
        stream = TlsStream(self._context, sock)
        return Link(number, host, stream, self._counter, self.services, self.make_handshake, time.monotonic())

    def listen(self) -> tuple[Address, ...]:
        """Begins to listen where the settings say. LocalError if an address is not to be had."""
        return self.listen_on(self.settings.listen)

    def role_changed(self, link: Link) -> None:
        """The link is something else to us now."""
        level = logging.DEBUG if link.role is Role.STRANGER else logging.INFO
        log.log(level, "link %d from %s is now %s", link.number, link.host, link.role)

    def was_read(self, link: Link, count_bytes: int) -> None:
        """Background is metered."""
        self._measuring.was_read(link, count_bytes, time.monotonic())

    def was_written(self, link: Link, count_bytes: int) -> None:
        """Background is metered."""
        self._measuring.was_written(link, count_bytes)

    def lost(self, link: Link) -> None:
        """The core may have to know."""
        self._measuring.post(LinkLost(link.number))

    @property
    def capped(self) -> bool:
        """While a measurement runs."""
        return self._measuring.capped

    def tick(self, now: Now) -> None:
        """The core's timer, and the counts."""
        self._measuring.tick(now.mono_s)
        self._counts.tick(now)

    def moments(self) -> Sequence[float | None]:
        """When the core or the counts want a tick."""
        return self._measuring.core.next_timer(), self._counts.next_s

    def serve(self, now_s: float) -> None:
        """One round; strangers move what the cap on background allows."""
        self._readers.serve(now_s, self._measuring.may_read(now_s))
        self._writers.serve(now_s, self._measuring.may_write())

    def hung_up(self) -> None:
        """Reads the rate file."""
        rate_bytes = read_rate(self.settings.data_dir / RATE_FILE)
        if rate_bytes is not None:
            now_s = time.monotonic()
            self._readers.bucket.set_rate(rate_bytes, now_s)
            self._writers.bucket.set_rate(rate_bytes, now_s)
            log.info("rate is now %g bytes/s", rate_bytes)

    def ended(self) -> None:
        """The last line of the counts."""
        self._counts.close(read_now())

    def _make_services(self) -> Services:
        return Services(
            node_id=self.keys.identity.rsa_fingerprint,
            ntor_private=self.keys.ntor_private,
            commands=self.settings.commands,
            loop=self.settings.loop,
            echo=self.make_echo(),
            random=os.urandom,
            post=self._measuring.post,
        )


def read_rate(path: Path) -> float | None:
    """The rate in a file that holds Mbit/s as one number, in bytes/s; None, and a line in the log, if it does not."""
    try:
        mbps = float(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        log.warning("rate file %s: %s (a number of Mbit/s expected)", path, exc)
        return None
    if not 0.1 <= mbps <= 1e6:
        log.warning("rate file %s: %g Mbit/s (0.1 to 1000000 expected)", path, mbps)
        return None
    return float(from_mbps(mbps))
