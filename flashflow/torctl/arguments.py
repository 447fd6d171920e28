"""The arguments of a control command: positional words, K=V extras, and the values in them. CommandError if one is wrong."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Final

from flashflow.model.errors import PeerError, UsageError
from flashflow.model.ids import Address, parse_address

_RATE: Final = re.compile(r"[0-9]{1,4}(\.[0-9]{1,9})?")


class CommandError(PeerError):
    """A command line that is not as it has to be, with the reply it gets."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        """Status code of the reply."""


def positional(words: Sequence[str], *names: str) -> list[str]:
    """The first words, one for each name; none of them is K=V."""
    head = [word for word in words[: len(names)] if "=" not in word]
    if len(head) < len(names):
        raise CommandError(512, f"{len(head)} arguments, {' '.join(names)} expected")
    return head


def read_extras(words: Sequence[str], known: frozenset[str]) -> dict[str, str]:
    """The K=V words by key; each key is known and comes once."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise CommandError(513, f"Unrecognized argument {key[:40]!r}")
        if key in found:
            raise CommandError(512, f"{key} is given twice")
        found[key] = value
    return found


def needed(extras: Mapping[str, str], key: str) -> str:
    """The value of a key that has to be there."""
    if key not in extras:
        raise CommandError(512, f"{key}= is missing")
    return extras[key]


def read_address(extras: Mapping[str, str], name: str) -> Address:
    """An IP address and a port."""
    try:
        address = parse_address(needed(extras, name))
    except UsageError as exc:
        raise CommandError(513, f"{name}: {exc.reason}") from exc
    if address.port == 0:
        raise CommandError(513, f"{name}: a port from 1 to 65535 expected")
    return Address(read_ip(name, address.host), address.port)


def read_ip(name: str, text: str) -> str:
    """An IP address, with or without brackets, as it is usually written."""
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise CommandError(513, f"{name}: {text[:60]!r} is no IP address") from None


def read_integer(name: str, text: str, least: int, most: int) -> int:
    """A number from `least` to `most`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and least <= int(text) <= most):
        raise CommandError(512, f"{name}: {text[:20]!r}, a number from {least} to {most} expected")
    return int(text)


def read_optional(extras: Mapping[str, str], key: str, least: int, most: int) -> int | None:
    """The same, or None if the key is not there."""
    return read_integer(key, extras[key], least, most) if key in extras else None


def read_rate(extras: Mapping[str, str], key: str, most: float) -> float:
    """A number a second, `most` if it is not given."""
    text = extras.get(key, f"{most:g}")
    if _RATE.fullmatch(text) is None or not 0 < float(text) <= most:
        raise CommandError(512, f"{key}: {text[:20]!r}, a number above 0, at most {most:g}, expected")
    return float(text)


def read_token(name: str, text: str) -> bytes:
    """16 bytes in hex."""
    try:
        token = bytes.fromhex(text)
    except ValueError:
        token = b""
    if len(token) != 16 or len(text) != 32:
        raise CommandError(513, f"{name}: a token of 32 hex digits expected")
    return token


def read_key(extras: Mapping[str, str], name: str) -> bytes:
    """32 bytes in base64, with or without padding."""
    text = needed(extras, name)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise CommandError(513, f"{name}: 32 bytes in base64 expected")
    return key


def encode_key(key: bytes) -> str:
    """As base64 without padding."""
    return base64.b64encode(key).decode("ascii").rstrip("=")
