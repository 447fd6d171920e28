"""Relay keys, certificates and joined handshakes for orlink's tests; made once per run, for RSA keys cost time."""

from functools import cache

from flashflow.orlink.keys import LinkCertificate, RelayKeys, make_link_certificate
from flashflow.orlink.link import AuthSecrets, InitiatorHandshake, ResponderHandshake

NOW_UTC_S = 1_800_000_000.0
DAY_S = 86_400
CHALLENGE = bytes(range(32))


@cache
def _relay_keys(_number: int) -> RelayKeys:
    return RelayKeys.generate()


@cache
def _link_certificate(_number: int) -> LinkCertificate:
    return make_link_certificate(NOW_UTC_S - DAY_S, NOW_UTC_S + DAY_S)


def relay_keys(number: int = 0) -> RelayKeys:
    """Always the same keys for the same number."""
    return _relay_keys(number)


def link_certificate(number: int = 0) -> LinkCertificate:
    """Always the same certificate for the same number."""
    return _link_certificate(number)


def initiator(
    keys: RelayKeys | None = None,
    *,
    certificate: LinkCertificate | None = None,
    peer_ip: str = "127.0.0.1",
    now_utc_s: float = NOW_UTC_S,
) -> InitiatorHandshake:
    """An initiator that expects the identity of `keys`, relay_keys() by default."""
    identity = (keys or relay_keys()).identity
    return InitiatorHandshake(
        tls_certificate_der=(certificate or link_certificate()).certificate_der,
        expected_rsa=identity.rsa_fingerprint,
        expected_ed25519=identity.ed25519,
        peer_ip=peer_ip,
        now_utc_s=now_utc_s,
    )


def responder(
    keys: RelayKeys | None = None,
    *,
    peer_ip: str = "127.0.0.1",
    now_utc_s: float = NOW_UTC_S,
    tls_secrets: AuthSecrets | None = None,
) -> ResponderHandshake:
    return ResponderHandshake(
        keys=keys or relay_keys(),
        link_certificate_der=link_certificate().certificate_der,
        peer_ip=peer_ip,
        own_ips=("127.0.0.1", "::1"),
        auth_challenge=CHALLENGE,
        now_utc_s=now_utc_s,
        tls_secrets=tls_secrets,
    )
