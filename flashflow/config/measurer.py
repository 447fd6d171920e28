"""A measurer's settings."""

import ipaddress
import os
from pathlib import Path
from typing import Annotated

from pydantic import PlainValidator

from flashflow.config.coord import LogLevel
from flashflow.config.ini import FilePath, Settings, SocketAddress, load_settings, setting, value_error
from flashflow.config.networks import AllowedNetworks, parse_networks
from flashflow.model.units import from_mbps

MAX_RATE_MBPS = 1_000_000
"""Above this a number is a mistake of units."""
MAX_FAR_ENDS = 16
"""Most identities of a far end; a relay opens a connection to each."""

DEFAULTS = """
[measurer]
datadir = data-meas
keydir = ${datadir}/keys
key = ${keydir}/measurer.pem
coord_cert = ${keydir}/coord.pem
tor_datadir = ${datadir}/tor
coord_addr = localhost:12934
max_rate = 1000
allowed_networks = public
workers = 0
bucket_cells = 125
far_end_addr =
far_end_identities = 4

[tor]
tor_bin =

[log]
level = INFO
"""


def _to_networks(value: object) -> AllowedNetworks:
    networks = parse_networks(str(value))
    if not networks.public and not networks.networks:
        raise ValueError("empty")
    return networks


def _to_rate(value: object) -> int:
    mbps = float(str(value))
    if not 0.1 <= mbps <= MAX_RATE_MBPS:  # false for nan and infinity too
        raise ValueError("out of range")
    return from_mbps(mbps)


def _to_ip_or_none(value: object) -> str | None:
    text = str(value).removeprefix("[").removesuffix("]")
    if not text:
        return None
    address = ipaddress.ip_address(text)
    if address.is_unspecified:
        raise ValueError("relays cannot connect to it")
    return str(address)


def _to_workers(value: object) -> int:
    workers = int(str(value))
    if not 0 <= workers <= 256:
        raise ValueError("out of range")
    return workers or os.cpu_count() or 1


class MeasurerConfig(Settings):
    """measurer.conf, checked; every path is absolute."""

    datadir: FilePath = setting("measurer.datadir", "a path")
    """Where everything of the measurer lives."""
    keydir: FilePath = setting("measurer.keydir", "a path")
    """Its key and the coordinator's certificate."""
    key: FilePath = setting("measurer.key", "a path")
    """The measurer's own key and certificate, one PEM file; the certificate's name is the measurer's."""
    coord_cert: FilePath = setting("measurer.coord_cert", "a path")
    """The coordinator's certificate, the only one that is trusted."""
    tor_datadir: FilePath = setting("measurer.tor_datadir", "a path")
    """The Tor client's data directory."""
    coord_addr: SocketAddress = setting("measurer.coord_addr", "host:port or [IPv6]:port")
    """Where the coordinator listens."""
    max_rate_bytes: Annotated[int, PlainValidator(_to_rate)] = setting(
        "measurer.max_rate", f"Mbit/s, 0.1 to {MAX_RATE_MBPS}"
    )
    """The most that this host sends over all measurements, cell bytes/s; the file gives Mbit/s."""
    allowed_networks: Annotated[AllowedNetworks, PlainValidator(_to_networks)] = setting(
        "measurer.allowed_networks", "`public` or networks such as 192.0.2.0/24, 2001:db8::/32"
    )
    """Which relays' addresses it sends to."""
    workers: Annotated[int, PlainValidator(_to_workers)] = setting("measurer.workers", "0 to 256")
    """Processes for measurement traffic, 1 or more; 0 in the file is one for each CPU."""
    bucket_cells: int = setting("measurer.bucket_cells", "cells, 1 to 100000", ge=1, le=100_000)
    """One cell of so many is checked."""
    far_end_addr: Annotated[str | None, PlainValidator(_to_ip_or_none)] = setting(
        "measurer.far_end_addr", "an IP address of this host, or nothing"
    )
    """Where relays reach the far end of loop measurements; None: the address from which this host reaches the relay."""
    far_end_identities: int = setting(
        "measurer.far_end_identities", f"0 to {MAX_FAR_ENDS}", ge=0, le=MAX_FAR_ENDS
    )
    """Identities of the far end; 0: this measurer does no loop measurements."""

    tor_bin: str = setting("tor.tor_bin", "a program, or nothing")
    """Another Tor client; refused unless empty, since only FlashFlow's own can measure."""
    log_level: LogLevel = setting("log.level", "DEBUG, INFO, WARNING or ERROR")
    """The least severe messages that are logged."""


def load_measurer(path: Path) -> MeasurerConfig:
    """The settings in the file at `path`. Raises UsageError with file, section, key and what was expected."""
    config = load_settings(path, MeasurerConfig, DEFAULTS)
    if config.tor_bin:
        expected = "nothing (only FlashFlow's own Tor client can measure)"
        raise value_error(path, "tor.tor_bin", expected, repr(config.tor_bin))
    return config
