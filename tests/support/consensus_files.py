"""Consensus files for simulations: the real network, and a consensus as its flavour of microdescriptors has it."""

import base64
import hashlib
import lzma

from support.directory_files import VECTORS

REAL_NETWORK = VECTORS / "consensus-2020-03-05-10-00-00.xz"
"""The public network of 2020-03-05 10:00 UTC, 6,532 relays."""


def real_text() -> str:
    """The real network's consensus, decompressed."""
    return lzma.decompress(REAL_NETWORK.read_bytes()).decode()


def as_microdesc(consensus: str) -> str:
    """`consensus` in the form of a microdescriptor consensus (dir-spec 3.9.2): no digests in `r` lines, `m` lines."""
    lines = []
    for line in consensus.splitlines():
        words = line.split(" ")
        if line == "network-status-version 3":
            lines.append("network-status-version 3 microdesc")
        elif words[0] == "r":
            digest = base64.b64encode(hashlib.sha256(line.encode()).digest()).decode().rstrip("=")
            lines += [" ".join(words[:3] + words[4:]), f"m {digest}"]
        elif words[0] != "p":
            lines.append(line)
    return "\n".join(lines) + "\n"


def entry(
    number: int, weight_kb: int | None, address: str | None = None, flags: str = "Running Valid"
) -> str:
    """The router entry of relay `number`, at an address of its own if none is given; None for Unmeasured=1."""
    identity = base64.b64encode(number.to_bytes(20, "big")).decode().rstrip("=")
    host = address or f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    weight = "Bandwidth=20 Unmeasured=1" if weight_kb is None else f"Bandwidth={weight_kb}"
    head = f"r test{number} {identity} {'A' * 27} 2020-03-05 09:20:00 {host} 9001 0"
    return f"{head}\ns {flags}\nw {weight}\n"
