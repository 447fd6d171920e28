"""The coordinator's settings."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from flashflow.config.ini import (
    FilePath,
    Lines,
    OptionalControl,
    OptionalFilePath,
    Settings,
    SocketAddress,
    load_settings,
    setting,
    value_error,
)
from flashflow.model.timing import DRAIN_S, MAX_MEASUREMENT_S, SETUP_S

DAY_S = 86_400
MAX_TOR_DATADIR_BYTES = 99
"""The longest data directory of a tor: its control socket has 8 bytes more, and Unix sockets 107 at most."""

DEFAULTS = """
[coord]
datadir = data-coord
keydir = ${datadir}/keys
key = ${keydir}/coord.pem
resultsdir = ${datadir}/results
database = ${resultsdir}/results.sqlite
tor_datadir = ${datadir}/tor
listen_addr = localhost:12934
ctrl_addr = localhost:12935

[v3bw]
max_results_age = 604800
v3bw = ${coord:resultsdir}/v3bw
interval = 3600
keep = 2592000
publish_loop_results = no

[meas_params]
meas_duration = 30
bg_percent = 0.25
warmup = 2
slot = 60
period = 86400
multiplier = 2.25
multiplier_known = 2.25
epsilon1 = 0.20
epsilon2 = 0.05

[schedule]
strategy = uniform
co_location = address
secret = ${coord:datadir}/schedule_secret
deployment = 0
deployments = 1

[pipeline]
workers = 1
queue = 1000
tries = 3
retry_after = 10
timeout = 30
stop_timeout = 10

[directory]
source = file
consensus =
descriptors =
control =
tor_bin = tor
tor_datadir = ${coord:datadir}/directory
torrc_extra_lines =
refresh = 3600

[relay_filter]
file = relay_filter

[ctrl]
coord_addr = ${coord:ctrl_addr}
cookie = ${coord:datadir}/control_auth_cookie

[tor]
tor_bin =

[log]
level = INFO
"""
"""Sections and keys keep the names of the original FlashFlow where they mean the same."""

LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(lambda text: text.upper())]


def _kinds(text: str) -> frozenset[str]:
    words = text.split()
    return frozenset() if words == ["none"] else frozenset(words or [""])


CoLocation = Annotated[frozenset[Literal["address", "family", "prefix"]], BeforeValidator(_kinds)]
"""What makes relays one host's."""


class CoordConfig(Settings):
    """coord.conf, checked; every path is absolute."""

    datadir: FilePath = setting("coord.datadir", "a path")
    """Where everything of the coordinator lives."""
    keydir: FilePath = setting("coord.keydir", "a path")
    """The coordinator's key and one certificate (*.pem) for each trusted measurer."""
    key: FilePath = setting("coord.key", "a path")
    """The coordinator's own key and certificate, one PEM file."""
    resultsdir: FilePath = setting("coord.resultsdir", "a path")
    """Results database and v3bw files."""
    database: FilePath = setting("coord.database", "a path")
    """The results database, SQLite."""
    tor_datadir: FilePath = setting("coord.tor_datadir", "a path")
    """The Tor client's data directory."""
    listen_addr: SocketAddress = setting("coord.listen_addr", "host:port or [IPv6]:port")
    """Where measurers connect to."""
    ctrl_addr: SocketAddress = setting("coord.ctrl_addr", "host:port or [IPv6]:port")
    """Where controllers connect to."""

    max_results_age_s: int = setting("v3bw.max_results_age", "seconds, 60 or more", ge=60)
    """Results older than this are not published, seconds."""
    v3bw: FilePath = setting("v3bw.v3bw", "a path")
    """The symbolic link to the newest v3bw file."""
    publish_loop_results: bool = setting("v3bw.publish_loop_results", "yes or no")
    """Whether results of loop mode, lower bounds for a loaded relay, are published."""
    v3bw_interval_s: int = setting("v3bw.interval", "seconds, 1 or more", ge=1)
    """Seconds from one v3bw file to the next."""
    v3bw_keep_s: int = setting("v3bw.keep", "seconds, 3600 or more", ge=3600)
    """Older v3bw files are removed, seconds."""

    meas_duration_s: int = setting("meas_params.meas_duration", "whole seconds, 1 to 600", ge=1, le=600)
    """Seconds that a measurement counts (D)."""
    bg_percent: float = setting("meas_params.bg_percent", "a fraction above 0 and below 0.5", gt=0, lt=0.5)
    """r, the largest share of background traffic that is believed; a fraction in spite of its name."""
    warmup_s: int = setting("meas_params.warmup", "whole seconds, 0 to 60", ge=0, le=60)
    """Seconds of traffic before second 1."""
    slot_s: int = setting("meas_params.slot", "whole seconds, 1 or more", ge=1)
    """Length of a slot, seconds."""
    period_s: int = setting("meas_params.period", "whole seconds, 1 to 604800", ge=1, le=604_800)
    """Every relay is measured once in each period, seconds; periods begin at whole multiples of it since 1970 (UTC)."""
    multiplier: float = setting("meas_params.multiplier", "a number from 1 to 100", ge=1, le=100)
    """m of the paper."""
    multiplier_known: float = setting("meas_params.multiplier_known", "a number from 1 to 100", ge=1, le=100)
    """m for relays whose estimate is our own accepted result."""
    epsilon1: float = setting("meas_params.epsilon1", "a fraction from 0 to 0.9", ge=0, le=0.9)
    """ε1 of the paper, the error below."""
    epsilon2: float = setting("meas_params.epsilon2", "a fraction from 0 to 1", ge=0, le=1)
    """ε2 of the paper, the error above."""

    strategy: Literal["uniform", "fastest"] = setting("schedule.strategy", "uniform or fastest")
    """Relays are measured anywhere in the period, or as early in it as the team can."""
    co_location: CoLocation = setting(
        "schedule.co_location", "none, or some of address, family, prefix with spaces between"
    )
    """What makes relays share a slot."""
    schedule_secret: FilePath = setting("schedule.secret", "a path")
    """The file of the secret that schedules are drawn with, made if it is missing."""
    deployment: int = setting("schedule.deployment", "a number from 0", ge=0)
    """This deployment's number among those that share the secret."""
    deployments: int = setting("schedule.deployments", "a number from 1 to 100", ge=1, le=100)
    """How many deployments share the secret, and never measure a relay in the same slot."""

    pipeline_workers: int = setting("pipeline.workers", "a number from 1 to 64", ge=1, le=64)
    """Threads that inspect relays which are new in the consensus."""
    pipeline_queue: int = setting("pipeline.queue", "a number from 1 to 100000", ge=1, le=100_000)
    """Relays that wait at most for a stage."""
    pipeline_tries: int = setting("pipeline.tries", "a number from 1 to 100", ge=1, le=100)
    """How often a stage works on a relay that it fails with."""
    pipeline_retry_after_s: float = setting("pipeline.retry_after", "seconds, 0 to 3600", ge=0, le=3600)
    """From a failure to the next try, seconds."""
    pipeline_timeout_s: float = setting("pipeline.timeout", "seconds, 1 to 3600", ge=1, le=3600)
    """How long a relay that was handed over waits for its place in the schedule, seconds."""
    pipeline_stop_timeout_s: float = setting("pipeline.stop_timeout", "seconds, 1 to 60", ge=1, le=60)
    """How long a stop waits for the threads, seconds."""

    directory_source: Literal["file", "tor"] = setting("directory.source", "file or tor")
    """Where relays are known from."""
    consensus: OptionalFilePath = setting("directory.consensus", "the path of a consensus file")
    """The consensus, plain or compressed; load_coord refuses source = file without one."""
    descriptors: OptionalFilePath = setting("directory.descriptors", "a path, or nothing")
    """The relays' server descriptors; without one no relay's keys are known."""
    directory_control: OptionalControl = setting(
        "directory.control", "host:port, [IPv6]:port, the path of a control socket (with a slash), or nothing"
    )
    """The control port of a tor that runs already; None to run one."""
    directory_tor_bin: str = setting("directory.tor_bin", "the program of a stock tor", min_length=1)
    """The tor that the coordinator runs."""
    directory_tor_datadir: FilePath = setting("directory.tor_datadir", "a path")
    """Its data directory."""
    directory_torrc_extra_lines: Lines = setting("directory.torrc_extra_lines", "lines of a torrc")
    """Added to its torrc."""
    refresh_s: int = setting("directory.refresh", "seconds, 1 or more", ge=1)
    """Seconds until the relays are read again, whatever happens."""

    relay_filter: FilePath = setting("relay_filter.file", "a path")
    """Which relays are measured, and how."""

    ctrl_coord_addr: SocketAddress = setting("ctrl.coord_addr", "host:port or [IPv6]:port")
    """Where `flashflow ctrl` finds the coordinator."""
    ctrl_cookie: FilePath = setting("ctrl.cookie", "a path")
    """The cookie that `flashflow ctrl` shows."""

    tor_bin: str = setting("tor.tor_bin", "a program, or nothing")
    """Another Tor client; refused unless empty, since only FlashFlow's own can measure."""
    log_level: LogLevel = setting("log.level", "DEBUG, INFO, WARNING or ERROR")
    """The least severe messages that are logged."""

    @property
    def starts_directory_tor(self) -> bool:
        """Whether the coordinator runs a stock tor of its own to know relays from."""
        return self.directory_source == "tor" and self.directory_control is None


def load_coord(path: Path) -> CoordConfig:
    """The settings in the file at `path`. Raises UsageError with file, section, key and what was expected."""
    config = load_settings(path, CoordConfig, DEFAULTS)
    longest_s = MAX_MEASUREMENT_S - config.warmup_s
    if config.meas_duration_s > longest_s:
        expected = f"at most {longest_s} ({MAX_MEASUREMENT_S} with the warmup of {config.warmup_s})"
        raise value_error(path, "meas_params.meas_duration", expected, config.meas_duration_s)
    shortest_s = SETUP_S + config.warmup_s + config.meas_duration_s + DRAIN_S
    if config.slot_s < shortest_s:
        parts = f"set-up {SETUP_S} + warmup {config.warmup_s} + duration {config.meas_duration_s} + drain {DRAIN_S}"
        raise value_error(path, "meas_params.slot", f"at least {shortest_s} s ({parts})", config.slot_s)
    if config.period_s % config.slot_s:
        expected = f"a multiple of the slot of {config.slot_s} s"
        raise value_error(path, "meas_params.period", expected, config.period_s)
    if config.deployment >= config.deployments:
        expected = f"a number below the {config.deployments} deployments"
        raise value_error(path, "schedule.deployment", expected, config.deployment)
    if config.deployments > 1 and config.period_s > DAY_S:  # the shared random value is a day's
        expected = f"at most {DAY_S} s where several deployments share the secret"
        raise value_error(path, "meas_params.period", expected, config.period_s)
    if config.directory_source == "file" and config.consensus is None:
        raise value_error(path, "directory.consensus", "the path of a consensus file", "nothing")
    if config.starts_directory_tor:
        _check_tor_datadir(path, "directory.tor_datadir", config.directory_tor_datadir)
    _check_tor_datadir(path, "coord.tor_datadir", config.tor_datadir)
    if config.tor_bin:
        expected = "nothing (only FlashFlow's own Tor client can measure)"
        raise value_error(path, "tor.tor_bin", expected, repr(config.tor_bin))
    return config


def _check_tor_datadir(path: Path, name: str, datadir: Path) -> None:
    text = str(datadir)
    if len(os.fsencode(text)) > MAX_TOR_DATADIR_BYTES:
        expected = f"a path of at most {MAX_TOR_DATADIR_BYTES} bytes, for the control socket in it"
        raise value_error(path, name, expected, repr(text))
    if any(ord(char) < 32 for char in text):
        raise value_error(path, name, "a path without control characters", repr(text))
