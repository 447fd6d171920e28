"""The link handshake inside TLS, as initiator and as responder (tor-spec 4).

    initiator                        responder
    VERSIONS                    ->
                                <-   VERSIONS  CERTS  AUTH_CHALLENGE  NETINFO
    [CERTS AUTHENTICATE] NETINFO ->

TLS is the shell's: it hands over the peer's certificate and the bytes. Trust is a type: a link is an UnverifiedLink once
versions are agreed, a VerifiedLink once the certificates are checked, and an OpenLink when NETINFO arrived. Which cells
may come in a phase is data (`INITIATOR_CELLS`, `RESPONDER_CELLS`), checked before anything else.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from flashflow.model.errors import PeerError
from flashflow.orlink.authenticate import (
    AuthFacts,
    AuthSecrets,
    encode_challenge,
    parse_challenge,
    verify_authenticate,
)
from flashflow.orlink.cells import Cell, CellReader, Command, command_name, encode_cell
from flashflow.orlink.certs import RelayIdentity, RsaIdentity
from flashflow.orlink.certs_cell import VerifiedCerts, responder_certs, verify_initiator, verify_responder
from flashflow.orlink.keys import RelayKeys
from flashflow.orlink.netinfo import NetInfo, parse_netinfo

__all__ = [
    "INITIATOR_CELLS",
    "RESPONDER_CELLS",
    "AuthSecrets",
    "InitiatorHandshake",
    "LinkError",
    "OpenLink",
    "Phase",
    "RelayIdentity",
    "ResponderHandshake",
]

VERSIONS: Final = (4, 5)
"""Link protocol versions offered: both have circuit IDs of 4 bytes."""


class LinkError(PeerError):
    """The link handshake failed: the peer broke the protocol or is not who it has to be."""


class Phase(StrEnum):
    """What a handshake waits for."""

    VERSIONS = "VERSIONS"
    CERTS = "CERTS"
    CHALLENGE = "AUTH_CHALLENGE"
    CERTS_OR_NETINFO = "CERTS or NETINFO"
    AUTHENTICATE = "AUTHENTICATE"
    NETINFO = "NETINFO"
    OPEN = "nothing: the link is open"
    FAILED = "nothing: the handshake failed"


_FIRST: Final = frozenset({Command.VERSIONS, Command.VPADDING, Command.AUTHORIZE})
# "Any VERSIONS cells sent after the first VERSIONS cell MUST be ignored" (tor-spec 4.1), as VPADDING always is.
_IGNORED: Final = frozenset({Command.VPADDING, Command.AUTHORIZE, Command.VERSIONS})
_LATER: Final = frozenset({Command.VPADDING, Command.VERSIONS})

INITIATOR_CELLS: Final[Mapping[Phase, frozenset[Command]]] = {
    Phase.VERSIONS: _FIRST,
    Phase.CERTS: _LATER | {Command.CERTS},
    Phase.CHALLENGE: _LATER | {Command.AUTH_CHALLENGE},
    Phase.NETINFO: _LATER | {Command.NETINFO},
    Phase.FAILED: frozenset(),
}
"""Cells that a responder may send in each phase of the initiator."""

RESPONDER_CELLS: Final[Mapping[Phase, frozenset[Command]]] = {
    Phase.VERSIONS: _FIRST,
    Phase.CERTS_OR_NETINFO: _LATER | {Command.CERTS, Command.NETINFO},
    Phase.AUTHENTICATE: _LATER | {Command.AUTHENTICATE},
    Phase.NETINFO: _LATER | {Command.NETINFO},
    Phase.FAILED: frozenset(),
}
"""Cells that an initiator may send in each phase of the responder."""


@dataclass(frozen=True, slots=True)
class UnverifiedLink:
    """A version is agreed on."""

    version: int
    """Link protocol version."""


@dataclass(frozen=True, slots=True)
class VerifiedLink:
    """The peer's identity is proven, or it is known that it does not prove one."""

    version: int
    """Link protocol version."""
    identity: RelayIdentity | None
    """Proven identity of the peer; None for an initiator that did not authenticate."""


@dataclass(frozen=True, slots=True)
class OpenLink:
    """The handshake is complete."""

    identity: RelayIdentity | None
    """Proven identity of the peer; None for an initiator that did not authenticate."""
    version: int
    """Link protocol version."""
    rest: bytes
    """Bytes that came behind the handshake: the start of the link's cells."""
    netinfo: NetInfo
    """What the peer said about time and addresses."""


class _Handshake:
    """What both sides share: reading cells, the phase, versions, NETINFO."""

    def __init__(self, legal: Mapping[Phase, frozenset[Command]]) -> None:
        self._legal = legal
        self._reader = CellReader(circ_id_bytes=2)
        self._phase = Phase.VERSIONS
        self._link: UnverifiedLink | VerifiedLink | OpenLink | None = None
        self._handlers: dict[int, Callable[[Cell], bytes]] = {
            Command.VERSIONS: self._on_versions,
            Command.NETINFO: self._on_netinfo,
        }

    @property
    def open(self) -> OpenLink | None:
        """The open link, once the handshake is complete."""
        return self._link if isinstance(self._link, OpenLink) else None

    @property
    def waits_for(self) -> str:
        """What the handshake waits for, in words, for whoever reports that it took too long."""
        return self._phase.value

    def receive(self, data: bytes) -> bytes:
        """Takes bytes that arrived, gives bytes to send. LinkError if the peer did something wrong.

        Not to be called any more once `open` is set: later bytes belong to the link.
        """
        if self.open is not None:
            raise RuntimeError("the handshake is complete: bytes now belong to the open link")
        self._reader.feed(data)
        try:
            return self._take_all()
        except PeerError as exc:
            self._phase = Phase.FAILED
            raise exc if isinstance(exc, LinkError) else LinkError(f"link handshake: {exc.reason}") from exc

    def _take_all(self) -> bytes:
        answer = b""
        while self.open is None and (cell := self._reader.next()) is not None:
            answer += self._take(cell)
        return answer

    def _take(self, cell: Cell) -> bytes:
        if cell.command not in self._legal[self._phase]:
            name = command_name(cell.command)
            raise LinkError(f"link handshake: {name} cell, but {self._phase.value} expected")
        if cell.circ_id != 0:
            name = command_name(cell.command)
            raise LinkError(f"link handshake: {name} cell on circuit {cell.circ_id}, 0 expected")
        if cell.command in _IGNORED and (
            self._phase is not Phase.VERSIONS or cell.command != Command.VERSIONS
        ):
            return b""
        return self._handlers[cell.command](cell)

    def _on_versions(self, cell: Cell) -> bytes:
        self._link = UnverifiedLink(_choose_version(cell.payload))
        self._reader.circ_id_bytes = 4
        return self._after_versions()

    def _after_versions(self) -> bytes:
        raise NotImplementedError

    def _on_netinfo(self, cell: Cell) -> bytes:
        netinfo = parse_netinfo(cell.payload)
        link = self._verified()
        self._link = OpenLink(link.identity, link.version, self._reader.rest(), netinfo)
        self._phase = Phase.OPEN
        return b""

    def _version(self) -> int:
        assert self._link is not None  # the phase table: VERSIONS comes first
        return self._link.version

    def _verified(self) -> VerifiedLink:
        assert isinstance(self._link, VerifiedLink)  # the phase table: NETINFO is legal behind CERTS only
        return self._link


class InitiatorHandshake(_Handshake):
    """The side that opened the connection; it does not authenticate itself.

    `tls_certificate_der` is what the peer presented in TLS, `peer_ip` where we connected to. With an expected identity of
    None any will do: it is then only known that the peer owns the one it shows.
    """

    def __init__(
        self,
        *,
        tls_certificate_der: bytes,
        expected_rsa: bytes | None,
        expected_ed25519: bytes | None,
        peer_ip: str,
        now_utc_s: float,
    ) -> None:
        super().__init__(INITIATOR_CELLS)
        self._tls_certificate_der = tls_certificate_der
        self._expected_rsa = expected_rsa
        self._expected_ed25519 = expected_ed25519
        self._now_utc_s = now_utc_s
        self._netinfo = _netinfo_cell(NetInfo(0, peer_ip, ()))
        self._handlers |= {Command.CERTS: self._on_certs, Command.AUTH_CHALLENGE: self._on_challenge}

    def start(self) -> bytes:
        """The bytes to send first."""
        return _versions_cell()

    def _after_versions(self) -> bytes:
        self._phase = Phase.CERTS
        return b""

    def _on_certs(self, cell: Cell) -> bytes:
        verified = verify_responder(cell.payload, self._tls_certificate_der, self._now_utc_s)
        _check_identity("RSA", verified.identity.rsa_fingerprint, self._expected_rsa)
        _check_identity("ed25519", verified.identity.ed25519, self._expected_ed25519)
        self._link = VerifiedLink(self._version(), verified.identity)
        self._phase = Phase.CHALLENGE
        return self._netinfo

    def _on_challenge(self, cell: Cell) -> bytes:
        parse_challenge(cell.payload)
        self._phase = Phase.NETINFO
        return b""


class ResponderHandshake(_Handshake):
    """The side that was connected to: a relay.

    `auth_challenge` is 32 random bytes. An initiator need not authenticate; one that does is verified if `tls_secrets`
    gives access to the TLS exporter, and counts as unauthenticated (identity None) otherwise.
    """

    def __init__(
        self,
        *,
        keys: RelayKeys,
        link_certificate_der: bytes,
        peer_ip: str,
        own_ips: Sequence[str],
        auth_challenge: bytes,
        now_utc_s: float,
        tls_secrets: AuthSecrets | None = None,
    ) -> None:
        super().__init__(RESPONDER_CELLS)
        self._keys = keys
        self._link_certificate_der = link_certificate_der
        self._now_utc_s = now_utc_s
        self._tls_secrets = tls_secrets
        self._challenge = auth_challenge
        self._netinfo = NetInfo(int(now_utc_s), peer_ip, tuple(own_ips))
        self._responder_log = b""
        self._initiator_log = hashlib.sha256()
        self._claimed: tuple[VerifiedCerts, bytes] | None = None
        self._handlers |= {Command.CERTS: self._on_certs, Command.AUTHENTICATE: self._on_authenticate}

    def start(self) -> bytes:
        """The bytes to send first: none, the initiator begins."""
        return b""

    def _take(self, cell: Cell) -> bytes:
        if cell.command != Command.AUTHENTICATE:
            self._initiator_log.update(encode_cell(cell, self._reader.circ_id_bytes))
        return super()._take(cell)

    def _after_versions(self) -> bytes:
        certs = responder_certs(self._keys, self._link_certificate_der, self._now_utc_s)
        logged = _versions_cell() + encode_cell(Cell(0, Command.CERTS, certs))
        logged += encode_cell(Cell(0, Command.AUTH_CHALLENGE, encode_challenge(self._challenge)))
        self._responder_log = hashlib.sha256(logged).digest()
        self._link = VerifiedLink(self._version(), None)
        self._phase = Phase.CERTS_OR_NETINFO
        return logged + _netinfo_cell(self._netinfo)

    def _on_certs(self, cell: Cell) -> bytes:
        if self._tls_secrets is not None:
            self._claimed = verify_initiator(cell.payload, self._now_utc_s)
        self._phase = Phase.AUTHENTICATE
        return b""

    def _on_authenticate(self, cell: Cell) -> bytes:
        if self._tls_secrets is not None and self._claimed is not None:
            claimed, auth_key = self._claimed
            verify_authenticate(cell.payload, self._facts(claimed, self._tls_secrets), auth_key)
            self._link = VerifiedLink(self._version(), claimed.identity)
        self._phase = Phase.NETINFO
        return b""

    def _facts(self, claimed: VerifiedCerts, secrets: AuthSecrets) -> AuthFacts:
        return AuthFacts(
            initiator_rsa_sha256=claimed.rsa.sha256,
            responder_rsa_sha256=RsaIdentity(self._keys.rsa_identity.public_key()).sha256,
            initiator_ed25519=claimed.identity.ed25519 or bytes(32),
            responder_ed25519=self._keys.identity.ed25519 or bytes(32),
            responder_log=self._responder_log,
            initiator_log=self._initiator_log.digest(),
            tls_certificate_sha256=hashlib.sha256(self._link_certificate_der).digest(),
            tls_binding=secrets.binding(claimed.rsa.sha256),
        )


def _versions_cell() -> bytes:
    payload = b"".join(version.to_bytes(2, "big") for version in VERSIONS)
    return encode_cell(Cell(0, Command.VERSIONS, payload), circ_id_bytes=2)


def _netinfo_cell(netinfo: NetInfo) -> bytes:
    return encode_cell(Cell(0, Command.NETINFO, netinfo.encode()))


def _choose_version(payload: bytes) -> int:
    if len(payload) % 2:
        raise LinkError(f"link handshake: VERSIONS cell of {len(payload)} bytes, an even number expected")
    offered = [int.from_bytes(payload[at : at + 2], "big") for at in range(0, len(payload), 2)]
    common = [version for version in offered if version in VERSIONS]
    if not common:
        raise LinkError(
            f"link handshake: the peer speaks versions {offered[:8]}, one of {list(VERSIONS)} expected"
        )
    return max(common)


def _check_identity(kind: str, found: bytes | None, expected: bytes | None) -> None:
    if expected is not None and found != expected:
        shown = found.hex().upper() if found is not None else "no"
        raise LinkError(
            f"link handshake: the peer owns {kind} identity {shown}, {expected.hex().upper()} expected"
        )
