"""FlashFlow's control commands: one class each with `line()`, and `parse_command` for the other side.

    COORD_START_MEAS <meas_id> <fingerprint> <dur> [ADDR= ED25519= NTOR= MEASURER=<token>@<ip>/<sockets> ...]
    MEASR_START_MEAS <meas_id> <fingerprint> <n_circs> <dur> [RATE= WARMUP= MODE= TOKEN= ADDR= ED25519= NTOR= BUCKET=]
    MEASR_START_MEAS <meas_id> <fingerprint> <n_circs> <dur> MODE=loop FAREND=<ip:port>/<fingerprint>/<ed25519>/<ntor> ...
    FF_STOP <meas_id>

With the relay's keys the command begins a measurement; without any extra it starts the active phase of one begun before.
Keys are base64 without padding, tokens hexadecimal; RATE is cell bytes per second that the relay reads. In loop mode
there is no token, and FAREND, repeated, names the relays (ours) to which the measured one extends the circuits in turn.
"""

import base64
import binascii
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flashflow.model.errors import PeerError, UsageError
from flashflow.model.ids import Address, Fingerprint, MeasId, parse_address, parse_fingerprint

MAX_MEAS_ID: Final = 2**32 - 1
MAX_SECONDS: Final = 600
MAX_CIRCUITS: Final = 160
MAX_LOOP_CIRCUITS: Final = 40
MAX_FAR_ENDS: Final = 16
MAX_MEASURERS: Final = 10
KEY_CHARS: Final = 43
"""32 bytes in base64 without padding."""
MAX_BUCKET_CELLS: Final = 100_000
MAX_RATE_BYTES: Final = 2**48


class CommandError(PeerError):
    """A command line that is not as it has to be, with the reply it gets."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        """Status code of the reply."""


@dataclass(frozen=True, slots=True)
class Target:
    """The relay to connect to."""

    address: Address
    """IP address and port of its OR port."""
    ed25519: bytes
    """Its ed25519 identity, 32 bytes."""
    ntor: bytes
    """Its ntor onion key, 32 bytes."""

    def words(self) -> list[str]:
        """As extras of a command."""
        return [f"ADDR={self.address}", f"ED25519={_base64(self.ed25519)}", f"NTOR={_base64(self.ntor)}"]


@dataclass(frozen=True, slots=True)
class FarEnd:
    """A relay of ours to which the measured one extends circuits in loop mode."""

    address: Address
    """IP address and port."""
    fingerprint: Fingerprint
    """Its RSA identity."""
    ed25519: bytes
    """Its ed25519 identity, 32 bytes."""
    ntor: bytes
    """Its ntor onion key, 32 bytes."""

    def __str__(self) -> str:
        return f"{self.address}/{self.fingerprint}/{_base64(self.ed25519)}/{_base64(self.ntor)}"


def parse_far_end(text: str) -> FarEnd:
    """Reads `<ip:port>/<fingerprint>/<ed25519>/<ntor>`. CommandError. (Base64 may hold a slash.)"""
    address, _, rest = text.partition("/")
    fingerprint, _, keys = rest.partition("/")
    if len(keys) != 2 * KEY_CHARS + 1 or keys[KEY_CHARS] != "/":
        raise CommandError(513, "FAREND: <ip:port>/<fingerprint>/<ed25519>/<ntor> expected")
    extras = {"FAREND": address, "FAREND ed25519": keys[:KEY_CHARS], "FAREND ntor": keys[KEY_CHARS + 1 :]}
    return FarEnd(
        _address(extras, "FAREND"),
        _fingerprint(fingerprint),
        _key(extras, "FAREND ed25519"),
        _key(extras, "FAREND ntor"),
    )


@dataclass(frozen=True, slots=True)
class MeasurerToken:
    """One measurer that the relay is told of."""

    token: bytes = field(repr=False)
    """Its secret for this measurement, 16 bytes."""
    host: str
    """IP address it comes from."""
    sockets: int
    """Connections it may open."""

    def word(self) -> str:
        """As an extra of a command."""
        return f"MEASURER={self.token.hex()}@{self.host}/{self.sockets}"


@dataclass(frozen=True, slots=True)
class CoordStart:
    """COORD_START_MEAS: the coordinator's side of a measurement."""

    meas_id: MeasId
    """Measurement."""
    fingerprint: Fingerprint
    """The relay."""
    dur_s: int
    """Seconds that the relay is told: warm-up and duration."""
    target: Target | None = None
    """Where the relay is; None starts the active phase."""
    measurers: tuple[MeasurerToken, ...] = ()
    """Who is going to send traffic; 1 to 10 with a target."""

    def line(self) -> str:
        """The command line, without its end."""
        words = ["COORD_START_MEAS", str(self.meas_id), self.fingerprint, str(self.dur_s)]
        if self.target is not None:
            words += self.target.words() + [measurer.word() for measurer in self.measurers]
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class MeasrStart:
    """MEASR_START_MEAS: a measurer's side of a measurement."""

    meas_id: MeasId
    """Measurement."""
    fingerprint: Fingerprint
    """The relay."""
    n_circs: int
    """Circuits to build, each on its own connection; how many were built when it starts the active phase."""
    dur_s: int
    """Seconds to report, without the warm-up."""
    rate_bytes: int | None = None
    """Cell bytes per second to load the relay with, over all circuits; None: as fast as it goes."""
    warmup_s: int = 0
    """Seconds of traffic before second 1."""
    mode: str = "echo"
    """How the relay is measured: `echo` or `loop`."""
    token: bytes | None = field(default=None, repr=False)
    """This measurer's secret for the relay, 16 bytes; None in loop mode."""
    target: Target | None = None
    """Where the relay is; None starts the active phase."""
    bucket_cells: int | None = None
    """One cell in so many is checked; None: the process's own setting."""
    far_ends: tuple[FarEnd, ...] = ()
    """Loop mode: where the relay extends the circuits to, 1 to 16."""

    def line(self) -> str:
        """The command line, without its end."""
        words = ["MEASR_START_MEAS", str(self.meas_id), self.fingerprint, str(self.n_circs), str(self.dur_s)]
        if self.target is None:
            return " ".join(words)
        if self.rate_bytes is not None:
            words.append(f"RATE={self.rate_bytes}")
        words += [f"WARMUP={self.warmup_s}", f"MODE={self.mode}"]
        if self.token is not None:
            words.append(f"TOKEN={self.token.hex()}")
        if self.bucket_cells is not None:
            words.append(f"BUCKET={self.bucket_cells}")
        words += self.target.words() + [f"FAREND={far_end}" for far_end in self.far_ends]
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Stop:
    """FF_STOP: end a measurement now."""

    meas_id: MeasId
    """Measurement."""

    def line(self) -> str:
        """The command line, without its end."""
        return f"FF_STOP {self.meas_id}"


Command = CoordStart | MeasrStart | Stop


def parse_command(line: str) -> Command:
    """Reads one of our commands. CommandError: 510 another command, 512 arguments, 513 unknown key or bad value."""
    words = line.split()
    parse = _PARSERS.get(words[0].upper()) if words else None
    if parse is None:
        raise CommandError(510, f"Unrecognized command {' '.join(words[:1])[:40]!r}")
    return parse(words[1:])


def _parse_coord(words: Sequence[str]) -> CoordStart:
    meas_id, fingerprint, dur_s = _positional(words, "meas_id", "fingerprint", "dur")
    measurers = tuple(_measurer(word[9:]) for word in words[3:] if word.startswith("MEASURER="))
    extras = _extras([word for word in words[3:] if not word.startswith("MEASURER=")], _TARGET_KEYS)
    target = _target(extras) if extras or measurers else None
    if target is not None and not 1 <= len(measurers) <= MAX_MEASURERS:
        raise CommandError(512, f"MEASURER: {len(measurers)} given, 1 to {MAX_MEASURERS} expected")
    return CoordStart(
        _meas_id(meas_id),
        _fingerprint(fingerprint),
        _integer("dur", dur_s, 1, MAX_SECONDS),
        target,
        measurers,
    )


def _parse_measr(words: Sequence[str]) -> MeasrStart:
    meas_id, fingerprint, n_circs, dur_s = _positional(words, "meas_id", "fingerprint", "n_circs", "dur")
    far_ends = tuple(parse_far_end(word[7:]) for word in words[4:] if word.startswith("FAREND="))
    extras = _extras([word for word in words[4:] if not word.startswith("FAREND=")], _MEASR_KEYS)
    mode = extras.get("MODE", "echo")
    if mode not in _MOST_CIRCUITS:
        raise CommandError(513, f"MODE={mode[:20]}: echo or loop expected")
    head = (
        _meas_id(meas_id),
        _fingerprint(fingerprint),
        _integer("n_circs", n_circs, 1, _MOST_CIRCUITS[mode]),
        _integer("dur", dur_s, 1, MAX_SECONDS),
    )
    if not extras and not far_ends:
        return MeasrStart(*head)
    least, most = (1, MAX_FAR_ENDS) if mode == "loop" else (0, 0)
    if not least <= len(far_ends) <= most:
        raise CommandError(512, f"FAREND: {len(far_ends)} given, {least} to {most} expected in {mode} mode")
    if mode == "loop" and "TOKEN" in extras:
        raise CommandError(513, "TOKEN: not in loop mode")
    return MeasrStart(
        *head,
        rate_bytes=_optional(extras, "RATE", 1, MAX_RATE_BYTES),
        warmup_s=_optional(extras, "WARMUP", 0, MAX_SECONDS) or 0,
        mode=mode,
        token=None if mode == "loop" else _token("TOKEN", _needed(extras, "TOKEN")),
        target=_target(extras),
        bucket_cells=_optional(extras, "BUCKET", 1, MAX_BUCKET_CELLS),
        far_ends=far_ends,
    )


def _parse_stop(words: Sequence[str]) -> Stop:
    if len(words) != 1:
        raise CommandError(512, "FF_STOP takes one measurement id")
    return Stop(_meas_id(words[0]))


_TARGET_KEYS: Final = frozenset({"ADDR", "ED25519", "NTOR"})
_MEASR_KEYS: Final = _TARGET_KEYS | {"RATE", "WARMUP", "MODE", "TOKEN", "BUCKET"}
_MOST_CIRCUITS: Final[Mapping[str, int]] = {"echo": MAX_CIRCUITS, "loop": MAX_LOOP_CIRCUITS}
_PARSERS: Final[Mapping[str, Callable[[Sequence[str]], Command]]] = {
    "COORD_START_MEAS": _parse_coord,
    "MEASR_START_MEAS": _parse_measr,
    "FF_STOP": _parse_stop,
}
NAMES: Final = frozenset(_PARSERS)
"""The commands that are ours."""


def _positional(words: Sequence[str], *names: str) -> list[str]:
    head = [word for word in words[: len(names)] if "=" not in word]
    if len(head) < len(names):
        raise CommandError(512, f"{len(head)} arguments, {' '.join(names)} expected")
    return head


def _extras(words: Sequence[str], known: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise CommandError(513, f"Unrecognized argument {key[:40]!r}")
        if key in found:
            raise CommandError(512, f"{key} is given twice")
        found[key] = value
    return found


def _needed(extras: Mapping[str, str], key: str) -> str:
    if key not in extras:
        raise CommandError(512, f"{key}= is missing")
    return extras[key]


def _target(extras: Mapping[str, str]) -> Target:
    return Target(_address(extras, "ADDR"), _key(extras, "ED25519"), _key(extras, "NTOR"))


def _address(extras: Mapping[str, str], name: str) -> Address:
    try:
        address = parse_address(_needed(extras, name))
    except UsageError as exc:
        raise CommandError(513, f"{name}: {exc.reason}") from exc
    if address.port == 0:
        raise CommandError(513, f"{name}: a port from 1 to 65535 expected")
    return Address(_ip(name, address.host), address.port)


def _measurer(text: str) -> MeasurerToken:
    token, at, rest = text.partition("@")
    host, slash, sockets = rest.rpartition("/")
    if not at or not slash:
        raise CommandError(513, "MEASURER: <token>@<ip>/<sockets> expected")
    return MeasurerToken(
        _token("MEASURER", token),
        _ip("MEASURER", host),
        _integer("MEASURER sockets", sockets, 1, MAX_CIRCUITS),
    )


def _ip(name: str, text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise CommandError(513, f"{name}: {text[:60]!r} is no IP address") from None


def _meas_id(text: str) -> MeasId:
    return MeasId(_integer("meas_id", text, 1, MAX_MEAS_ID))


def _fingerprint(text: str) -> Fingerprint:
    try:
        return parse_fingerprint(text)
    except UsageError as exc:
        raise CommandError(512, exc.reason) from exc


def _integer(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and least <= int(text) <= most):
        raise CommandError(512, f"{name}: {text[:20]!r}, a number from {least} to {most} expected")
    return int(text)


def _optional(extras: Mapping[str, str], key: str, least: int, most: int) -> int | None:
    return _integer(key, extras[key], least, most) if key in extras else None


def _token(name: str, text: str) -> bytes:
    try:
        token = bytes.fromhex(text)
    except ValueError:
        token = b""
    if len(token) != 16 or len(text) != 32:
        raise CommandError(513, f"{name}: a token of 32 hex digits expected")
    return token


def _key(extras: Mapping[str, str], name: str) -> bytes:
    text = _needed(extras, name)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise CommandError(513, f"{name}: 32 bytes in base64 expected")
    return key


def _base64(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii").rstrip("=")
