"""FlashFlow's control commands: one class each with `line()`, and `parse_command` for the other side.

    COORD_START_MEAS <meas_id> <fingerprint> <dur> [ADDR= ED25519= NTOR= MEASURER=<token>@<ip>/<sockets> ...]
    MEASR_START_MEAS <meas_id> <fingerprint> <n_circs> <dur> [RATE= WARMUP= MODE= TOKEN= ADDR= ED25519= NTOR= BUCKET=]
    MEASR_START_MEAS <meas_id> <fingerprint> <n_circs> <dur> MODE=loop FAREND=<ip:port>/<fingerprint>/<ed25519>/<ntor> ...
                     [CONNS= CONN_BURST= CONN_RATE= CIRC_BURST= CIRC_RATE= CIRC_CELLS=]
    FF_STOP <meas_id>

With the relay's keys the command begins a measurement; without any extra it starts the active phase of one begun before.
Keys are base64 without padding, tokens hexadecimal; RATE is cell bytes per second that the relay reads. In loop mode
there is no token, and FAREND, repeated, names the relays (ours) to which the measured one extends the circuits in turn.
CONNS= and what follows it are the limits of the relay's network, as `model.network.NetworkLimits` has them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from flashflow.model.errors import UsageError
from flashflow.model.ids import Address, Fingerprint, MeasId, parse_fingerprint
from flashflow.model.network import CEILING, LEAST_CELLS, NetworkLimits
from flashflow.torctl.arguments import (
    CommandError,
    encode_key,
    needed,
    positional,
    read_address,
    read_extras,
    read_integer,
    read_ip,
    read_key,
    read_optional,
    read_rate,
    read_token,
)

MAX_MEAS_ID: Final = 2**32 - 1
MAX_SECONDS: Final = 600
MAX_CIRCUITS: Final = 160
MAX_LOOP_CIRCUITS: Final = CEILING.connections
MAX_FAR_ENDS: Final = 16
MAX_MEASURERS: Final = 10
KEY_CHARS: Final = 43
"""32 bytes in base64 without padding."""
MAX_BUCKET_CELLS: Final = 100_000
MAX_RATE_BYTES: Final = 2**48


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
        return [
            f"ADDR={self.address}",
            f"ED25519={encode_key(self.ed25519)}",
            f"NTOR={encode_key(self.ntor)}",
        ]


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
        return f"{self.address}/{self.fingerprint}/{encode_key(self.ed25519)}/{encode_key(self.ntor)}"


def parse_far_end(text: str) -> FarEnd:
    """Reads `<ip:port>/<fingerprint>/<ed25519>/<ntor>`. CommandError. (Base64 may hold a slash.)"""
    address, _, rest = text.partition("/")
    fingerprint, _, keys = rest.partition("/")
    if len(keys) != 2 * KEY_CHARS + 1 or keys[KEY_CHARS] != "/":
        raise CommandError(513, "FAREND: <ip:port>/<fingerprint>/<ed25519>/<ntor> expected")
    extras = {"FAREND": address, "FAREND ed25519": keys[:KEY_CHARS], "FAREND ntor": keys[KEY_CHARS + 1 :]}
    return FarEnd(
        read_address(extras, "FAREND"),
        _fingerprint(fingerprint),
        read_key(extras, "FAREND ed25519"),
        read_key(extras, "FAREND ntor"),
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
    limits: NetworkLimits | None = None
    """Loop mode: what may be done to the relay; None: as the live network has it."""

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
        if self.limits is not None:
            words += [f"{key}={getattr(self.limits, name):g}" for key, name in _LIMITS.items()]
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
    meas_id, fingerprint, dur_s = positional(words, "meas_id", "fingerprint", "dur")
    measurers = tuple(_measurer(word[9:]) for word in words[3:] if word.startswith("MEASURER="))
    extras = read_extras([word for word in words[3:] if not word.startswith("MEASURER=")], _TARGET_KEYS)
    target = _target(extras) if extras or measurers else None
    if target is not None and not 1 <= len(measurers) <= MAX_MEASURERS:
        raise CommandError(512, f"MEASURER: {len(measurers)} given, 1 to {MAX_MEASURERS} expected")
    return CoordStart(
        _meas_id(meas_id),
        _fingerprint(fingerprint),
        read_integer("dur", dur_s, 1, MAX_SECONDS),
        target,
        measurers,
    )


def _parse_measr(words: Sequence[str]) -> MeasrStart:
    meas_id, fingerprint, n_circs, dur_s = positional(words, "meas_id", "fingerprint", "n_circs", "dur")
    far_ends = tuple(parse_far_end(word[7:]) for word in words[4:] if word.startswith("FAREND="))
    extras = read_extras([word for word in words[4:] if not word.startswith("FAREND=")], _MEASR_KEYS)
    mode = extras.get("MODE", "echo")
    if mode not in _MOST_CIRCUITS:
        raise CommandError(513, f"MODE={mode[:20]}: echo or loop expected")
    head = (
        _meas_id(meas_id),
        _fingerprint(fingerprint),
        read_integer("n_circs", n_circs, 1, _MOST_CIRCUITS[mode]),
        read_integer("dur", dur_s, 1, MAX_SECONDS),
    )
    if not extras and not far_ends:
        return MeasrStart(*head)
    least, most = (1, MAX_FAR_ENDS) if mode == "loop" else (0, 0)
    if not least <= len(far_ends) <= most:
        raise CommandError(512, f"FAREND: {len(far_ends)} given, {least} to {most} expected in {mode} mode")
    if mode == "loop" and "TOKEN" in extras:
        raise CommandError(513, "TOKEN: not in loop mode")
    if mode != "loop" and (limited := sorted(_LIMITS.keys() & extras.keys())):
        raise CommandError(513, f"{limited[0]}: in loop mode only")
    return MeasrStart(
        *head,
        rate_bytes=read_optional(extras, "RATE", 1, MAX_RATE_BYTES),
        warmup_s=read_optional(extras, "WARMUP", 0, MAX_SECONDS) or 0,
        mode=mode,
        token=None if mode == "loop" else read_token("TOKEN", needed(extras, "TOKEN")),
        target=_target(extras),
        bucket_cells=read_optional(extras, "BUCKET", 1, MAX_BUCKET_CELLS),
        far_ends=far_ends,
        limits=_limits(extras),
    )


def _limits(extras: Mapping[str, str]) -> NetworkLimits | None:
    if not _LIMITS.keys() & extras.keys():
        return None
    most = CEILING
    return NetworkLimits(
        read_optional(extras, "CONNS", 1, most.connections) or most.connections,
        read_optional(extras, "CONN_BURST", 1, most.connections_burst) or most.connections_burst,
        read_rate(extras, "CONN_RATE", most.connections_per_s),
        read_optional(extras, "CIRC_BURST", 1, most.circuits_burst) or most.circuits_burst,
        read_rate(extras, "CIRC_RATE", most.circuits_per_s),
        read_optional(extras, "CIRC_CELLS", LEAST_CELLS, most.circuit_cells) or most.circuit_cells,
    )


def _parse_stop(words: Sequence[str]) -> Stop:
    if len(words) != 1:
        raise CommandError(512, "FF_STOP takes one measurement id")
    return Stop(_meas_id(words[0]))


_TARGET_KEYS: Final = frozenset({"ADDR", "ED25519", "NTOR"})
_LIMITS: Final[Mapping[str, str]] = {
    "CONNS": "connections",
    "CONN_BURST": "connections_burst",
    "CONN_RATE": "connections_per_s",
    "CIRC_BURST": "circuits_burst",
    "CIRC_RATE": "circuits_per_s",
    "CIRC_CELLS": "circuit_cells",
}
"""Key -> field of NetworkLimits."""
_MEASR_KEYS: Final = _TARGET_KEYS | {"RATE", "WARMUP", "MODE", "TOKEN", "BUCKET", *_LIMITS}
_MOST_CIRCUITS: Final[Mapping[str, int]] = {"echo": MAX_CIRCUITS, "loop": MAX_LOOP_CIRCUITS}
_PARSERS: Final[Mapping[str, Callable[[Sequence[str]], Command]]] = {
    "COORD_START_MEAS": _parse_coord,
    "MEASR_START_MEAS": _parse_measr,
    "FF_STOP": _parse_stop,
}
NAMES: Final = frozenset(_PARSERS)
"""The commands that are ours."""


def _target(extras: Mapping[str, str]) -> Target:
    return Target(read_address(extras, "ADDR"), read_key(extras, "ED25519"), read_key(extras, "NTOR"))


def _measurer(text: str) -> MeasurerToken:
    token, at, rest = text.partition("@")
    host, slash, sockets = rest.rpartition("/")
    if not at or not slash:
        raise CommandError(513, "MEASURER: <token>@<ip>/<sockets> expected")
    return MeasurerToken(
        read_token("MEASURER", token),
        read_ip("MEASURER", host),
        read_integer("MEASURER sockets", sockets, 1, MAX_CIRCUITS),
    )


def _meas_id(text: str) -> MeasId:
    return MeasId(read_integer("meas_id", text, 1, MAX_MEAS_ID))


def _fingerprint(text: str) -> Fingerprint:
    try:
        return parse_fingerprint(text)
    except UsageError as exc:
        raise CommandError(512, exc.reason) from exc
