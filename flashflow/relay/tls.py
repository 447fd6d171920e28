"""One TLS 1.3 server connection, non-blocking. pyOpenSSL, for the client certificate is taken whoever signed it."""

import contextlib
import socket
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from OpenSSL import SSL

from flashflow.model.errors import NetworkError
from flashflow.orlink.keys import LinkCertificate

RECORD_BYTES: Final = 16_384
"""Most plaintext in one TLS record: no read or write moves more."""


def server_context(certificate: LinkCertificate) -> SSL.Context:
    """Asks every client for a certificate and accepts any or none: who it is, is decided by its SHA-256."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.use_certificate(x509.load_der_x509_certificate(certificate.certificate_der))
    context.use_privatekey(load_der_private_key(certificate.private_key_der, None))  # type: ignore[arg-type]
    context.set_verify(SSL.VERIFY_PEER, lambda *_: True)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


class TlsStream:
    """Bytes in and out of one connection. Whatever goes wrong is a NetworkError with one line."""

    def __init__(self, context: SSL.Context, sock: socket.socket) -> None:
        sock.settimeout(0)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._tls = SSL.Connection(context, sock)
        self._tls.set_accept_state()
        self.unfinished_bytes = 0
        """Length of a write that TLS has begun: the next one must offer at least as much."""

    def fileno(self) -> int:
        """For epoll."""
        return self._socket.fileno()

    def handshake(self) -> bool:
        """Moves the handshake on; True when it is complete."""
        try:
            self._tls.do_handshake()
        except (SSL.WantReadError, SSL.WantWriteError):
            return False
        except SSL.Error as exc:
            raise NetworkError(f"TLS handshake: {_reason(exc)}") from exc
        return True

    def certificate_sha256(self) -> bytes | None:
        """SHA-256 of the client's certificate, once the handshake is complete; None if it showed none."""
        certificate = self._tls.get_peer_certificate()
        # OpenSSL's own digest: a stranger's certificate need not be one that a stricter parser takes.
        return (
            None
            if certificate is None
            else bytes.fromhex(certificate.digest("sha256").replace(b":", b"").decode())
        )

    def export(self, label: bytes, context: bytes, length_bytes: int) -> bytes:
        """RFC 5705 keying material of this session."""
        return self._tls.export_keying_material(label, length_bytes, context)

    def recv_into(self, room: memoryview) -> int | None:
        """Reads up to a record into `room`: how many bytes, 0 at the end of the stream, None if there are none yet."""
        try:
            return self._tls.recv_into(room)
        except (SSL.WantReadError, SSL.WantWriteError):
            return None
        except SSL.ZeroReturnError:
            return 0
        except SSL.Error as exc:
            raise NetworkError(f"reading: {_reason(exc)}") from exc

    def send(self, data: memoryview) -> int:
        """Writes up to a record of `data`: how many bytes, 0 if the connection takes none now."""
        try:
            sent = self._tls.send(data)
        except (SSL.WantReadError, SSL.WantWriteError):
            self.unfinished_bytes = min(len(data), RECORD_BYTES)
            return 0
        except SSL.Error as exc:
            raise NetworkError(f"writing: {_reason(exc)}") from exc
        self.unfinished_bytes = 0
        return sent

    def finish(self) -> None:
        """Says that nothing more will be sent; the other side may still be reading."""
        with contextlib.suppress(SSL.Error):
            self._tls.shutdown()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


def _reason(exc: SSL.Error) -> str:
    """What OpenSSL says, in one short line."""
    if isinstance(exc, SSL.SysCallError):
        return str(exc.args[-1])
    queued = exc.args[0] if exc.args and isinstance(exc.args[0], list) else []
    return str(queued[0][-1]) if queued else "broken off"
