"""A consensus of a local network, ns flavour (dir-spec 3.4), signed by an authority made for the occasion."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from stem.descriptor.server_descriptor import RelayDescriptor

from flashflow.model.errors import LocalError
from flashflow.model.ids import Fingerprint
from flashflow.orlink.certs import rsa_fingerprint, sign_rsa_bare
from flashflow.orlink.keys import pem

CONSENSUS_METHOD = 33
FLAGS = "Fast Guard Running Stable V2Dir Valid"
FRESH = timedelta(hours=1)
VALID = timedelta(hours=3)
_VOTING_DELAY_S = 20


def assemble(descriptors: Sequence[str], weights_kb: Mapping[Fingerprint, int], valid_after: datetime) -> str:
    """The consensus that lists the relays of these server descriptors.

    `weights_kb` gives `w Bandwidth=` by fingerprint, in 1000 bytes/s; a relay that it leaves out is marked unmeasured.
    `valid_after` is UTC. LocalError if a descriptor cannot be read.
    """
    parsed = [(text, _parse(text)) for text in descriptors]
    entries = sorted((str(desc.fingerprint), _entry(text, desc, weights_kb)) for text, desc in parsed)
    identity, signing = (rsa.generate_private_key(65_537, 2048) for _ in range(2))
    authority = rsa_fingerprint(identity.public_key()).hex().upper()
    routers = "".join(entry for _, entry in entries)
    body = _header(valid_after) + _authority(authority, routers) + routers + "directory-footer\n"
    return _signed(body, authority, signing)


def _parse(text: str) -> Any:
    try:
        return RelayDescriptor(text.encode(), validate=True)
    except ValueError as exc:
        raise LocalError(f"server descriptor: {exc}") from exc


def _header(valid_after: datetime) -> str:
    moments = {
        "valid-after": valid_after,
        "fresh-until": valid_after + FRESH,
        "valid-until": valid_after + VALID,
    }
    return "".join(
        f"{line}\n"
        for line in (
            "network-status-version 3",
            "vote-status consensus",
            f"consensus-method {CONSENSUS_METHOD}",
            *(f"{name} {_stamp(moment)}" for name, moment in moments.items()),
            f"voting-delay {_VOTING_DELAY_S} {_VOTING_DELAY_S}",
            f"known-flags {FLAGS}",
            "params bwweightscale=10000",
        )
    )


def _authority(fingerprint: str, routers: str) -> str:
    vote_digest = hashlib.sha1(routers.encode(), usedforsecurity=False).hexdigest().upper()
    return (
        f"dir-source testnet {fingerprint} 127.0.0.1 127.0.0.1 9 9\n"
        "contact nobody\n"
        f"vote-digest {vote_digest}\n"
    )


def _entry(text: str, desc: Any, weights_kb: Mapping[Fingerprint, int]) -> str:
    fingerprint = Fingerprint(str(desc.fingerprint))
    digest = hashlib.sha1(_signed_part(text).encode(), usedforsecurity=False).digest()
    protocols = " ".join(
        f"{name}={','.join(map(str, versions))}" for name, versions in sorted(desc.protocols.items())
    )
    return "".join(
        f"{line}\n"
        for line in (
            f"r {desc.nickname} {_base64(bytes.fromhex(fingerprint))} {_base64(digest)} "
            f"{_stamp(desc.published)} {desc.address} {desc.or_port} 0",
            *(f"a [{host}]:{port}" for host, port, is_ipv6 in desc.or_addresses if is_ipv6),
            f"s {FLAGS}",
            f"pr {protocols}",
            f"w Bandwidth={weights_kb[fingerprint]}"
            if fingerprint in weights_kb
            else "w Bandwidth=1 Unmeasured=1",
            "p reject 1-65535",
        )
    )


def _signed_part(text: str) -> str:
    """What a descriptor's digest covers (dir-spec 2.1.1, router-signature)."""
    mark = "\nrouter-signature\n"
    return text[: text.index(mark) + len(mark)]


def _signed(body: str, authority: str, signing: rsa.RSAPrivateKey) -> str:
    """Adds the signature, which covers everything up to the space behind directory-signature."""
    body += "directory-signature "
    digest = hashlib.sha1(body.encode(), usedforsecurity=False).digest()
    key_digest = rsa_fingerprint(signing.public_key()).hex().upper()
    return f"{body}{authority} {key_digest}\n{pem('SIGNATURE', sign_rsa_bare(signing, digest))}"


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")
