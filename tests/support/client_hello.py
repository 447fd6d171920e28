"""The first message of a TLS client, as OpenSSL writes it."""

import ssl

_CONTEXT = ssl.create_default_context()
_CONTEXT.check_hostname = False


def client_hello(name: str | None = None) -> bytes:
    """One record; `name` is the server name in it."""
    outgoing = ssl.MemoryBIO()
    tls = _CONTEXT.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without the other side")
