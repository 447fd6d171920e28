"""Tor's OR link protocol, sans I/O: bytes, keys, entropy and time come in as arguments, bytes go out.

From the wire upwards:

- `cells`: cells and the stream reader; `bulk`: whole buffers of cells of one circuit (numpy).
- `certs` (Tor's ed25519 certificates, RSA cross-certificate, X.509), `keys` (what a relay owns),
  `certs_cell` (CERTS cell: built, and verified into an identity), `authenticate`, `netinfo`.
- `link`: the handshake, as initiator and as responder: unverified -> verified -> open.
- `ntor` makes a circuit's keys, `extend` carries it (CREATE2, EXTEND2, link specifiers).
- `relaycell` and `relaycrypto`: what travels inside RELAY cells, and tor1 onion encryption.
- `meas`: FlashFlow's MEASUREMENT cells (proposal 316). MEAS_ECHO cells need no codec: their payloads, in order,
  are one contiguous AES-CTR stream, and `relaycrypto` seeks in it.
- `descriptor`: a relay's signed server descriptor; `expanded` is the one curve operation it needs.

Bytes from a peer raise only subclasses of `flashflow.model.errors.PeerError`: CellError, CertError, LinkError,
NtorError.
"""
