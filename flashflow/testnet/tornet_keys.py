"""The keys of a directory authority of a private network."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from flashflow.model.errors import LocalError
from flashflow.model.ids import Fingerprint, parse_fingerprint
from flashflow.testnet.tornet_node import TorNode, find_program, tor_command

KEYS_S: Final = 60.0
"""Longest wait for keys on a busy machine; a second is usual."""
IDENTITY_BITS: Final = 2048
"""tor-gencert makes keys of 3072 bits, which takes it some seconds for each authority; tor takes either."""
PASSPHRASE: Final = b"passphrase"
NOBODY: Final = f"DirAuthority nobody orport=1 v3ident={40 * '1'} 127.0.0.1:1 {40 * '1'}"
"""For a tor that only makes its keys: a TestingTorNetwork must have an authority."""


def make_authority(node: TorNode, ports: Sequence[str]) -> tuple[str, Fingerprint]:
    """Make all keys of `node`, which has these lines of ports; its DirAuthority line and itself. Raises LocalError."""
    v3ident = _make_certificate(node)
    node.configure(["TestingTorNetwork 1", *ports, NOBODY])
    fingerprint = _make_relay_keys(node)
    orport = node.or_address.port
    line = f"DirAuthority {node.name} orport={orport} v3ident={v3ident} {node.directory} {fingerprint}"
    return line, fingerprint


def _make_certificate(node: TorNode) -> str:
    """Identity, signing key and certificate of the voting protocol (dir-spec 3.1); the identity's digest."""
    keys = node.data / "keys"
    keys.mkdir(mode=0o700)
    encrypted = serialization.BestAvailableEncryption(PASSPHRASE)
    identity = rsa.generate_private_key(65537, IDENTITY_BITS)
    pem = identity.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted)
    (keys / "authority_identity_key").write_bytes(pem)
    address = str(node.directory)
    _run(node, [find_program("tor-gencert"), "--passphrase-fd", "0", "-m", "12", "-a", address], keys)
    words = (keys / "authority_certificate").read_text().split()
    return words[words.index("fingerprint") + 1]


def _make_relay_keys(node: TorNode) -> Fingerprint:
    listed = _run(node, [*tor_command(node.torrc), "--list-fingerprint", "--hush"], node.folder)
    return parse_fingerprint("".join(listed.strip().rpartition("\n")[2].split()[1:]))


def _run(node: TorNode, argv: Sequence[str], folder: Path) -> str:
    try:
        done = subprocess.run(
            argv, cwd=folder, input=PASSPHRASE + b"\n", capture_output=True, timeout=KEYS_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(f"{node.name}: makes no keys: {error}") from None
    output = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        said = (output + done.stderr.decode(errors="replace")).strip()[-300:]
        raise LocalError(f"{node.name}: makes no keys: {argv[0]} ended with status {done.returncode}: {said}")
    return output
