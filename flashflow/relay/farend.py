"""The far end of loop measurements: several relay identities in one process, for one relay under measurement.

The measurer's circuits lead through that relay to here, and each relay cell goes back through this hop's own onion
layer in both directions, so that the relay can neither forge nor foretell what comes back. There are several identities
because a relay sends all circuits to one identity over one connection. A link is taken only from the relay itself, which
proves its identity with AUTHENTICATE; everybody else is closed at once.
"""

import base64
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from flashflow.model.clock import Now
from flashflow.model.errors import PeerError
from flashflow.model.ids import Address, Fingerprint
from flashflow.orlink.authenticate import AuthSecrets
from flashflow.orlink.bulk import Cells
from flashflow.orlink.keys import RelayKeys, make_link_certificate
from flashflow.orlink.link import OpenLink, ResponderHandshake
from flashflow.relay.buffers import Buffer
from flashflow.relay.celllink import CellLink
from flashflow.relay.core.effects import Role
from flashflow.relay.counting import Counter
from flashflow.relay.looping import LoopCircuits
from flashflow.relay.serving import LinkServer, read_now
from flashflow.relay.tls import TlsStream, server_context

log = logging.getLogger(__name__)

MAX_UNPROVEN: Final = 32
"""Links that have not proven yet who they are; one more and the oldest of them goes."""
MAX_LINKS: Final = 8
"""Links of the measured relay to one identity: it needs one, and perhaps a second while it gives up the first."""
HANDSHAKE_S: Final = 5.0
"""A link that has not proven by then who it is, is closed."""
MAX_TOLD: Final = 10
"""Refused links that are worth a line in the log."""
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class HopKeys:
    """What making circuits at one identity needs."""

    node_id: bytes
    """The identity's RSA fingerprint, 20 bytes."""
    ntor_private: bytes
    """Its ntor onion key, 32 bytes."""
    random: Callable[[int], bytes] = os.urandom
    """Entropy, so many bytes."""


class FarLink(CellLink):
    """One connection to one of the identities."""

    def __init__(
        self,
        number: int,
        host: str,
        stream: TlsStream,
        counter: Counter,
        make_handshake: Callable[[CellLink], ResponderHandshake],
        now_s: float,
        *,
        circuits: Callable[["FarLink"], LoopCircuits],
        admit: Callable[["FarLink", OpenLink], None],
    ) -> None:
        super().__init__(number, host, stream, counter, make_handshake, now_s)
        self.deadline_s = now_s + HANDSHAKE_S
        self.circuits: Final = circuits(self)
        self._admit = admit

    def take_cells(self, cells: Cells) -> int:
        """See LoopCircuits."""
        return self.circuits.take(cells)

    def opened(self, link: OpenLink) -> None:
        """PeerError for everybody but the relay that is measured."""
        self._admit(self, link)


class FarEndServer(LinkServer[FarLink]):
    """One far end. What tests replace in order to cheat: `make_circuits`."""

    max_strangers = MAX_UNPROVEN

    def __init__(self, identities: Sequence[RelayKeys], only_peer: Fingerprint) -> None:
        now = read_now()
        super().__init__(None, now)
        self._identities = identities
        self._only_peer = bytes.fromhex(only_peer)
        self._by_port: dict[int, RelayKeys] = {}
        self._certificate = make_link_certificate(now.utc_s - 2 * _DAY_S, now.utc_s + 30 * _DAY_S)
        self._context = server_context(self._certificate)
        self._counter = Counter()
        self._refused = 0

    def make_circuits(self, keys: HopKeys, out: Buffer) -> LoopCircuits:
        """What answers the cells of a new link."""
        return LoopCircuits(keys, out)

    def listen(self, host: str) -> tuple[Address, ...]:
        """Listens on a free port of `host` for each identity, in their order. LocalError."""
        addresses = self.listen_on([Address(host, 0)] * len(self._identities))
        self._by_port = {
            address.port: keys for address, keys in zip(addresses, self._identities, strict=True)
        }
        return addresses

    def make_link(self, number: int, host: str, sock: socket.socket) -> FarLink:
        """A link to the identity whose port it came to."""
        own = Address(*sock.getsockname()[:2])
        keys = self._by_port[own.port]
        hop_keys = HopKeys(keys.identity.rsa_fingerprint, keys.ntor_private)
        return FarLink(
            number,
            host,
            TlsStream(self._context, sock),
            self._counter,
            lambda link: self._handshake(link, keys, own),
            time.monotonic(),
            circuits=lambda link: self.make_circuits(hop_keys, link.tx),
            admit=self._admit,
        )

    def was_read(self, link: FarLink, count_bytes: int) -> None:
        """Nothing is metered here."""

    def was_written(self, link: FarLink, count_bytes: int) -> None:
        """Nothing is metered here."""

    def lost(self, link: FarLink) -> None:
        """Its circuits are gone with it."""

    def tick(self, now: Now) -> None:
        """Nothing is timed here but the links."""

    def moments(self) -> Sequence[float | None]:
        """None."""
        return ()

    def hung_up(self) -> None:
        """There is nothing to read again."""

    def ended(self) -> None:
        """For the log: how much went to and fro."""
        log.info("read %d bytes, wrote %d bytes", self._counter.read_bytes, self._counter.written_bytes)

    def _handshake(self, link: CellLink, keys: RelayKeys, own: Address) -> ResponderHandshake:
        return ResponderHandshake(
            keys=keys,
            link_certificate_der=self._certificate.certificate_der,
            peer_ip=link.host,
            own_ips=[own.host],
            auth_challenge=os.urandom(32),
            now_utc_s=time.time(),
            tls_secrets=AuthSecrets(link.stream.export),
        )

    def _admit(self, link: FarLink, opened: OpenLink) -> None:
        found = opened.identity
        if found is None or found.rsa_fingerprint != self._only_peer:
            who = "proves no identity" if found is None else f"is {found.rsa_fingerprint.hex().upper()}"
            self._refused += 1
            if self._refused <= MAX_TOLD:
                log.warning("link %d from %s refused: it %s", link.number, link.host, who)
            raise PeerError(f"{who}, {self._only_peer.hex().upper()} expected")
        if sum(other.role is not Role.STRANGER for other in self._links.values()) >= self._most_links:
            raise PeerError("too many links of the relay that is measured")
        link.role = Role.TARGET
        log.info("link %d from %s: the measured relay", link.number, link.host)

    @property
    def _most_links(self) -> int:
        return MAX_LINKS * len(self._identities)


def ready_line(identities: Sequence[RelayKeys], addresses: Sequence[Address]) -> str:
    """`ready` and a JSON list of the identities: addr, fingerprint, ed25519, ntor (base64 without padding)."""
    listed = [
        {
            "addr": str(address),
            "fingerprint": keys.identity.rsa_fingerprint.hex().upper(),
            "ed25519": _base64(keys.identity.ed25519 or b""),
            "ntor": _base64(keys.ntor_public),
        }
        for keys, address in zip(identities, addresses, strict=True)
    ]
    return f"ready {json.dumps(listed)}"


def _base64(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii").rstrip("=")
