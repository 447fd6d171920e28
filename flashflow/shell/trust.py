"""The certificates of a side, read again when their files change: renewed or revoked without a restart.

A file that cannot be used keeps nobody out who was in: what was read before goes on, and the log has the reason. Nor does
it keep anybody in whose own file is gone.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from flashflow.keys import OwnIdentity, PeerIdentity, load_certificate, load_own, load_peer_certs
from flashflow.model.errors import LocalError
from flashflow.shell.mtls import client_context, server_context

log = logging.getLogger(__name__)

_Signature = tuple[tuple[str, int, int, int], ...]


class _Trust(ABC):
    """What is read from files; refresh() reads it again if they changed."""

    def __init__(self, key_file: Path) -> None:
        """Raises LocalError."""
        self._key_file = key_file
        self._seen = self._signature()
        self._complaint = ""
        self.own = load_own(key_file, datetime.now(UTC))
        """Our own key and certificate."""
        self._read(self.own)

    def refresh(self) -> bool:
        """Whether something else is trusted now, or shown."""
        seen = self._signature()
        if seen == self._seen:
            return False
        try:
            own = load_own(self._key_file, datetime.now(UTC))
            if own.name != self.own.name:
                raise LocalError(
                    f"{own.file}: the certificate of {own.name} (expected one of {self.own.name})"
                )
            self._read(own)
        except LocalError as error:
            if error.reason != self._complaint:
                log.error("%s; what was read before goes on", error.reason)
            self._complaint = error.reason
            return self._revoke()
        if own.fingerprint != self.own.fingerprint:
            log.info("own certificate renewed: %s, valid until %s", own.file, own.not_after.date())
        self.own, self._seen, self._complaint = own, seen, ""
        return True

    def _signature(self) -> _Signature:
        found = []
        for path in self._files():
            try:
                stat = path.stat()
            except OSError:
                continue
            found.append((path.name, stat.st_mtime_ns, stat.st_size, stat.st_ino))
        return tuple(sorted(found))

    def _revoke(self) -> bool:
        """Whether somebody is out whose file is gone, though others of the files cannot be used."""
        return False

    @abstractmethod
    def _files(self) -> Iterable[Path]:
        """Everything that is read."""

    @abstractmethod
    def _read(self, own: OwnIdentity) -> None:
        """Read the other side's certificates, and make the context."""


class ServerTrust(_Trust):
    """The coordinator's: its own key, and the measurers' certificates."""

    peers: dict[str, PeerIdentity]

    def __init__(self, key_file: Path, peers_dir: Path) -> None:
        """Raises LocalError."""
        self.peers_dir = peers_dir
        super().__init__(key_file)

    def _files(self) -> Iterable[Path]:
        return [self._key_file, *(self._listed() or [])]

    def _listed(self) -> list[Path] | None:
        try:
            return [path for path in self.peers_dir.iterdir() if path.suffix == ".pem"]
        except OSError:
            return None

    def _revoke(self) -> bool:
        listed = self._listed()
        if listed is None:  # a directory that cannot be read revokes nobody
            return False
        there: set[str] = set()
        unreadable: set[Path] = set()
        for path in listed:
            try:
                there.add(load_certificate(path).fingerprint)
            except LocalError:  # it may be half written
                unreadable.add(path)
        left = {key: peer for key, peer in self.peers.items() if key in there or peer.file in unreadable}
        if len(left) == len(self.peers):
            return False
        self.peers, self.context = left, server_context(self.own, left.values())
        return True

    def _read(self, own: OwnIdentity) -> None:
        peers = load_peer_certs(self.peers_dir, own)
        context = server_context(own, peers.values())
        self.peers = {peer.fingerprint: peer for peer in peers.values()}
        """SHA-256 of the certificate -> measurer."""
        self.context = context
        """For new connections."""


class ClientTrust(_Trust):
    """A measurer's: its own key, and the coordinator's certificate."""

    def __init__(self, key_file: Path, coord_cert: Path) -> None:
        """Raises LocalError."""
        self._coord_cert = coord_cert
        super().__init__(key_file)

    def _files(self) -> Iterable[Path]:
        return [self._key_file, self._coord_cert]

    def _read(self, own: OwnIdentity) -> None:
        coordinator = load_certificate(self._coord_cert)
        if coordinator.fingerprint == own.fingerprint:
            raise LocalError(
                f"{self._coord_cert}: this is our own certificate (expected the coordinator's .cert.pem)"
            )
        context = client_context(own, coordinator)
        self.coordinator = coordinator
        """Whom it trusts."""
        self.context = context
        """For new connections."""
