"""TLS 1.3 with pinned self-signed certificates on both sides, and its errors in words.

`TlsPipe` runs TLS over bytes instead of leaving it to the loop's transports, which drop the alert when they refuse a
certificate: the refused side would see a connection closed for no reason.
A context trusts exactly the certificates it is given; after the handshake the peer's SHA-256 is compared too, since a
trusted certificate could have signed another. Host names are not checked: the certificate is the identity.
"""

import contextlib
import os
import re
import ssl
from collections.abc import Iterable

from flashflow.keys import OwnIdentity, PeerIdentity, fingerprint_sha256
from flashflow.model.errors import LocalError
from flashflow.wire.messages import one_line

_READ_BYTES = 65536
_VERIFY_EXPIRED = 10
_VERIFY_NOT_YET = 9
_ALERTS = {
    "ALERT_UNKNOWN_CA": "does not know our certificate ({own}): copy our .cert.pem into its key directory",
    "ALERT_CERTIFICATE_EXPIRED": "says that our certificate ({own}) has expired: make a new one with flashflow keygen",
    "ALERT_BAD_CERTIFICATE": "refuses our certificate ({own}): copy our present .cert.pem into its key directory",
    "ALERT_CERTIFICATE_UNKNOWN": "refuses our certificate ({own}): copy our present .cert.pem into its key directory",
    "ALERT_DECRYPT_ERROR": "refuses our certificate ({own}): copy our present .cert.pem into its key directory",
    "CERTIFICATE_REQUIRED": "wants a certificate and got none",
    "ALERT_PROTOCOL_VERSION": "does not speak TLS 1.3",
    "WRONG_VERSION_NUMBER": "does not speak TLS",
    "HTTP_REQUEST": "speaks HTTP, not TLS",
    "UNSUPPORTED_PROTOCOL": "does not speak TLS 1.3",
    "NO_SHARED_CIPHER": "has no TLS 1.3 cipher in common with us",
}
"""Part of OpenSSL's reason -> what it means."""


def server_context(own: OwnIdentity, peers: Iterable[PeerIdentity]) -> ssl.SSLContext:
    """Context of the coordinator: every client must show one of the certificates of `peers`. Raises LocalError."""
    return _context(ssl.PROTOCOL_TLS_SERVER, own, peers)


def client_context(own: OwnIdentity, coordinator: PeerIdentity) -> ssl.SSLContext:
    """Context of a measurer, which trusts `coordinator` only. Raises LocalError."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, own, [coordinator])


class TlsPipe:
    """One side of a TLS connection: bytes of the network in and out, plaintext in and out."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None) -> None:
        """`server_name` is what a client puts into its ClientHello (flashflow/wire/knock.py)."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
        )
        self.open = False
        """The handshake is done."""
        self.closed = False
        """The peer said that it closes."""

    def start(self) -> None:
        """Begin the handshake: a client has something to send then."""
        self._shake()

    def receive(self, data: bytes) -> bytes:
        """Bytes of the network -> plaintext. Raises ssl.SSLError; take_outgoing() then has the alert to send."""
        self._incoming.write(data)
        if not self.open:
            self._shake()
        return self._read() if self.open else b""

    def send(self, plaintext: bytes) -> None:
        """Encrypt `plaintext`; the handshake must be done."""
        self._tls.write(plaintext)

    def say_closed(self) -> None:
        """Tell the peer that we close."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()

    def take_outgoing(self) -> bytes:
        """Bytes for the network."""
        return self._outgoing.read()

    def peer_fingerprint(self) -> str | None:
        """SHA-256 of the certificate that the peer showed, or None."""
        der = self._tls.getpeercert(binary_form=True) if self.open else None
        return fingerprint_sha256(der) if der else None

    def _shake(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
            self.open = True

    def _read(self) -> bytes:
        plaintext = bytearray()
        try:
            while chunk := self._tls.read(_READ_BYTES):
                plaintext += chunk
            self.closed = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.closed = True
        return bytes(plaintext)


def explain(error: BaseException | None, own_file: object, pinned: object) -> str:
    """A connection's error in one line: what happened and what to do.

    `own_file` names our certificate, `pinned` where the peer's certificate has to be.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _explain_verification(error, pinned)
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        for part, text in _ALERTS.items():
            if part in reason:
                return "the other side " + text.format(own=own_file)
        return one_line(f"TLS failed ({reason})")
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return _explain_os(error)
    return "connection closed" if error is None else one_line(f"{type(error).__name__}: {error}")


def _explain_verification(error: ssl.SSLCertVerificationError, pinned: object) -> str:
    if error.verify_code == _VERIFY_EXPIRED:
        return f"the other side's certificate has expired: make a new one with flashflow keygen and put it to {pinned}"
    if error.verify_code == _VERIFY_NOT_YET:
        return "the other side's certificate is not valid yet: check the clocks of both hosts"
    return f"the other side shows a certificate that is not trusted: copy its present .cert.pem to {pinned}"


def _explain_os(error: OSError) -> str:
    """asyncio puts its own words in place of the system's, and joins several attempts into one error."""
    number = error.errno or next(map(int, re.findall(r"\[Errno (\d+)\]", str(error))), 0)
    text = os.strerror(number) if number > 0 else error.strerror or str(error)
    return one_line(text or "connection failed").lower()


def _context(protocol: int, own: OwnIdentity, peers: Iterable[PeerIdentity]) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(own.file)
        trusted = "".join(peer.pem for peer in peers)
        if trusted:
            context.load_verify_locations(cadata=trusted)
    except (ssl.SSLError, OSError) as error:
        raise LocalError(one_line(f"{own.file}: cannot be used for TLS ({error})")) from None
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # every connection shows its certificate anew
    return context
