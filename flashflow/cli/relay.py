"""`flashflow relay`: the reference relay."""

import ipaddress
import logging
import re
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from flashflow.cli.app import App
from flashflow.model.errors import UsageError
from flashflow.model.ids import Address, parse_address, parse_fingerprint
from flashflow.model.units import from_mbps
from flashflow.relay.core.admission import AdmissionRules
from flashflow.relay.farend import FarEndServer
from flashflow.relay.farend import ready_line as far_end_ready_line
from flashflow.relay.identities import read_identities
from flashflow.relay.identity import load_or_make_keys, write_descriptor
from flashflow.relay.server import RelayServer
from flashflow.relay.settings import RelaySettings
from flashflow.shell.logs import start_logging

app = App()

_NICKNAME = re.compile(r"[A-Za-z0-9]{1,19}")
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")
_FAR_END_OPTIONS = frozenset({"far_end", "only_peer", "identities", "listen", "verbose"})


@app.command()
def relay(
    context: typer.Context,
    listen: Annotated[list[str], typer.Option(help="IP:PORT or [IPv6]:PORT, port 0 for any; repeatable.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Keys and descriptor live here; made if missing.")
    ] = None,
    nickname: Annotated[str | None, typer.Option(help="1 to 19 letters and digits.")] = None,
    rate_mbps: Annotated[
        float | None, typer.Option(help="Limit for reading and for writing, Mbit/s.")
    ] = None,
    bandwidth_avg_mbps: Annotated[float, typer.Option(help="What the descriptor says, Mbit/s.")] = 8000.0,
    coordinator: Annotated[
        list[str] | None, typer.Option(help="Certificate file, or its SHA-256 in hex; repeatable.")
    ] = None,
    background_ratio: Annotated[
        float, typer.Option(help="Largest share of background while measured.")
    ] = 0.25,
    period_s: Annotated[float, typer.Option(help="Window in which measurements are counted.")] = 86_400.0,
    max_per_period: Annotated[
        int, typer.Option(help="Measurements a coordinator gets per window, over restarts too.")
    ] = 2,
    max_duration_s: Annotated[int, typer.Option(help="Longest measurement, warm-up included.")] = 120,
    counts: Annotated[Path | None, typer.Option(help="Append byte counts here, ten times a second.")] = None,
    loop: Annotated[
        bool, typer.Option("--loop", help="Return RELAY cells that are meant for nobody.")
    ] = False,
    far_end: Annotated[
        bool, typer.Option("--far-end", help="Be the far end of a loop measurement instead.")
    ] = False,
    only_peer: Annotated[
        str | None, typer.Option(help="Far end: fingerprint of the one relay that may connect.")
    ] = None,
    identities: Annotated[
        Path | None, typer.Option(help="Far end: file with its keys; - for standard input.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log what strangers do, too.")] = False,
) -> None:
    """Run a reference relay: proposal 316's target side, for local networks, tests and research."""
    if far_end:
        _refuse_others(context)
        run_far_end(listen, only_peer, identities, verbose=verbose)
    if data_dir is None or nickname is None:
        raise UsageError(f"Missing option '{'--data-dir' if data_dir is None else '--nickname'}'")
    make: type[RelayServer] = (
        context.obj or RelayServer
    )  # a caller may hand over another one as the context's object
    settings = RelaySettings(
        data_dir=data_dir,
        nickname=check_nickname(nickname),
        listen=tuple(parse_listen(text) for text in listen),
        rules=_rules(coordinator or [], period_s, max_per_period, max_duration_s),
        rate_bytes=None if rate_mbps is None else from_mbps(_within("--rate-mbps", rate_mbps, 0.1, 1e6)),
        bandwidth_avg_bytes=from_mbps(_within("--bandwidth-avg-mbps", bandwidth_avg_mbps, 0.1, 1e6)),
        background_ratio=_within("--background-ratio", background_ratio, 0.01, 0.99),
        counts=counts,
        loop=loop,
    )
    run(settings, make, verbose=verbose)


def run(settings: RelaySettings, make: type[RelayServer], *, verbose: bool) -> None:
    """Starts a relay, says where it listens, and serves until a signal ends it (SystemExit 130 or 143)."""
    start_logging(logging.DEBUG if verbose else logging.INFO)
    keys = load_or_make_keys(settings.data_dir)
    server = make(settings, keys)
    addresses = server.listen()
    server.watch_signals()
    write_descriptor(settings, keys, addresses, time.time())
    print(ready_line(addresses, keys.identity.rsa_fingerprint), flush=True)
    number = server.run()
    raise SystemExit(0 if number is None else 128 + number)


def run_far_end(
    listen: list[str], only_peer: str | None, identities: Path | None, *, verbose: bool
) -> NoReturn:
    """Starts a far end, says which identities listen where, and serves until a signal ends it (SystemExit)."""
    if only_peer is None or identities is None:
        raise UsageError(f"Missing option '{'--only-peer' if only_peer is None else '--identities'}'")
    addresses = [parse_listen(text) for text in listen]
    if len(addresses) != 1 or addresses[0].port != 0:
        raise UsageError(
            "--listen: one address with port 0 expected, for each identity gets a port of its own"
        )
    start_logging(logging.DEBUG if verbose else logging.INFO)
    keys = read_identities(identities)
    server = FarEndServer(keys, parse_fingerprint(only_peer))
    found = server.listen(addresses[0].host)
    server.watch_signals()
    print(far_end_ready_line(keys, found), flush=True)
    number = server.run()
    raise SystemExit(0 if number is None else 128 + number)


def ready_line(addresses: tuple[Address, ...], fingerprint: bytes) -> str:
    """`ready ADDR[,ADDR...] FINGERPRINT`."""
    return f"ready {','.join(map(str, addresses))} {fingerprint.hex().upper()}"


def check_nickname(text: str) -> str:
    """The nickname. UsageError if Tor would not take it."""
    if _NICKNAME.fullmatch(text) is None:
        raise UsageError(f"--nickname {text[:40]!r}: 1 to 19 letters and digits expected")
    return text


def parse_listen(text: str) -> Address:
    """An IP address and port to listen on. UsageError."""
    address = parse_address(text)
    try:
        ipaddress.ip_address(address.host)
    except ValueError as exc:
        raise UsageError(f"--listen {text[:80]}: an IP address expected, not a name") from exc
    return address


def parse_coordinator(text: str) -> bytes:
    """SHA-256 of a coordinator's certificate: 64 hex digits, or a PEM file. UsageError."""
    if _SHA256.fullmatch(text):
        return bytes.fromhex(text)
    try:
        return x509.load_pem_x509_certificate(Path(text).read_bytes()).fingerprint(SHA256())
    except OSError as exc:
        raise UsageError(
            f"--coordinator {text[:200]}: {exc.strerror} (a file, or 64 hex digits expected)"
        ) from exc
    except ValueError as exc:
        raise UsageError(f"--coordinator {text[:200]}: not a PEM certificate") from exc


def _rules(
    coordinators: list[str], period_s: float, max_per_period: int, max_duration_s: int
) -> AdmissionRules:
    return AdmissionRules(
        frozenset(parse_coordinator(text) for text in coordinators),
        period_s=_within("--period-s", period_s, 0.0, 1e9),
        max_per_period=int(_within("--max-per-period", max_per_period, 0, 1_000_000)),
        max_duration_s=int(_within("--max-duration-s", max_duration_s, 1, 600)),
    )


def _refuse_others(context: typer.Context) -> None:
    """UsageError for an option that a far end would ignore."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in _FAR_END_OPTIONS and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--{name.replace('_', '-')}: not an option of a far end")


def _within(name: str, value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        raise UsageError(f"{name} {value:g}: {least:g} to {most:g} expected")
    return value
