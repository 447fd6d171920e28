"""The coordinator's configuration: defaults, conversions, and one line for every fault."""

import os
from pathlib import Path

import pytest

from flashflow.config.coord import DEFAULTS, CoordConfig, load_coord
from flashflow.config.ini import MAX_FILE_BYTES
from flashflow.model.errors import UsageError
from flashflow.model.ids import Address
from flashflow.model.timing import DRAIN_S, SETUP_S

CONSENSUS = "[directory]\nconsensus = consensus\n"
KINDS = "expected none, or some of address, family, prefix with spaces between"


def load(folder: Path, text: str) -> CoordConfig:
    path = folder / "coord.conf"
    path.write_text(text)
    return load_coord(path)


def refusal(folder: Path, text: str | bytes) -> str:
    """The reason for refusing `text`, without the file's name, which it must begin with."""
    path = folder / "coord.conf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        load_coord(path)
    reason = caught.value.reason
    assert reason.startswith(f"{path}: ")
    assert "\n" not in reason
    return reason.removeprefix(f"{path}: ")


def test_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, CONSENSUS)
    assert config.datadir == tmp_path / "data-coord"
    assert config.keydir == tmp_path / "data-coord/keys"
    assert config.key == tmp_path / "data-coord/keys/coord.pem"
    assert config.database == tmp_path / "data-coord/results/results.sqlite"
    assert config.tor_datadir == tmp_path / "data-coord/tor"
    assert config.v3bw == tmp_path / "data-coord/results/v3bw"
    assert (config.listen_addr, config.ctrl_addr) == (
        Address("localhost", 12934),
        Address("localhost", 12935),
    )
    assert (config.max_results_age_s, config.v3bw_interval_s) == (604_800, 3_600)
    assert (config.meas_duration_s, config.bg_percent, config.warmup_s, config.slot_s) == (30, 0.25, 2, 60)
    assert (config.period_s, config.publish_loop_results, config.refresh_s) == (86_400, False, 3_600)
    assert config.descriptors is None
    assert config.relay_filter == tmp_path / "relay_filter"
    assert config.ctrl_coord_addr == config.ctrl_addr
    assert config.ctrl_cookie == tmp_path / "data-coord/control_auth_cookie"
    assert (config.tor_bin, config.log_level) == ("", "INFO")


def test_a_value_may_refer_to_others(tmp_path: Path) -> None:
    config = load(
        tmp_path, f"{CONSENSUS}[coord]\ndatadir = /srv/ff\n[v3bw]\nv3bw = ${{coord:datadir}}/out/v3bw\n"
    )
    assert config.key == Path("/srv/ff/keys/coord.pem")
    assert config.v3bw == Path("/srv/ff/out/v3bw")


def test_home_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/op")
    monkeypatch.setenv("FF_PLACE", "/srv/place")
    config = load(tmp_path, f"{CONSENSUS}[coord]\ndatadir = ~/ff\nkeydir = $$FF_PLACE/keys\n")
    assert config.datadir == Path("/home/op/ff")
    assert config.keydir == Path("/srv/place/keys")


def test_paths_count_from_the_file_not_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "coord.conf").write_text(f"{CONSENSUS}[coord]\nkeydir = ../keys\n")
    monkeypatch.chdir(tmp_path)
    config = load_coord(Path("etc/coord.conf"))
    assert config.consensus == folder / "consensus"
    assert config.keydir == tmp_path / "keys"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::1]:12934", Address("::1", 12934)),
        ("coord.example:1", Address("coord.example", 1)),
    ],
)
def test_addresses(tmp_path: Path, text: str, address: Address) -> None:
    assert load(tmp_path, f"{CONSENSUS}[coord]\nlisten_addr = {text}\n").listen_addr == address


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("coord", "listen_addr", ":1234", "expected host:port or [IPv6]:port, got ':1234'"),
        ("coord", "listen_addr", "::1:12934", "expected host:port or [IPv6]:port, got '::1:12934'"),
        ("coord", "ctrl_addr", "h:70000", "expected host:port or [IPv6]:port, got 'h:70000'"),
        ("coord", "datadir", "", "expected a path, got ''"),
        ("coord", "datadir", "$$FF_NOT_SET/x", "environment variable FF_NOT_SET is not set"),
        ("coord", "datadir", "$HOME/x", "expected ${key} or ${section:key} of a setting that exists"),
        ("coord", "datadir", "${nowhere}/x", "expected ${key} or ${section:key} of a setting that exists"),
        ("meas_params", "meas_duration", "0", "expected whole seconds, 1 to 600, got '0'"),
        ("meas_params", "meas_duration", "601", "expected whole seconds, 1 to 600, got '601'"),
        ("meas_params", "meas_duration", "ten", "expected whole seconds, 1 to 600, got 'ten'"),
        ("meas_params", "bg_percent", "0", "expected a fraction above 0 and below 0.5, got '0'"),
        ("meas_params", "bg_percent", "0.5", "expected a fraction above 0 and below 0.5, got '0.5'"),
        ("meas_params", "bg_percent", "nan", "expected a fraction above 0 and below 0.5, got 'nan'"),
        ("meas_params", "multiplier", "inf", "expected a number from 1 to 100, got 'inf'"),
        ("meas_params", "epsilon1", "1", "expected a fraction from 0 to 0.9, got '1'"),
        ("v3bw", "publish_loop_results", "maybe", "expected yes or no, got 'maybe'"),
        ("meas_params", "meas_duration", "600", "expected at most 598 (600 with the warmup of 2), got 600"),
        ("meas_params", "period", "86401", "expected a multiple of the slot of 60 s, got 86401"),
        ("meas_params", "multiplier_known", "0.9", "expected a number from 1 to 100, got '0.9'"),
        ("schedule", "strategy", "slowest", "expected uniform or fastest, got 'slowest'"),
        ("schedule", "co_location", "", f"{KINDS}, got ''"),
        ("schedule", "co_location", "host", f"{KINDS}, got 'host'"),
        ("schedule", "co_location", "none address", f"{KINDS}, got 'none address'"),
        ("schedule", "deployment", "1", "expected a number below the 1 deployments, got 1"),
        ("schedule", "deployment", "-1", "expected a number from 0, got '-1'"),
        ("schedule", "deployments", "0", "expected a number from 1 to 100, got '0'"),
        ("schedule", "deployments", "101", "expected a number from 1 to 100, got '101'"),
        ("v3bw", "max_results_age", "-1", "expected seconds, 60 or more, got '-1'"),
        ("v3bw", "interval", "0", "expected seconds, 1 or more, got '0'"),
        ("directory", "source", "torch", "expected file or tor, got 'torch'"),
        ("directory", "control", "9051", "expected host:port, [IPv6]:port, the path of a control socket"),
        ("directory", "tor_bin", "", "expected the program of a stock tor, got ''"),
        ("directory", "consensus", "", "expected the path of a consensus file, got nothing"),
        ("log", "level", "loud", "expected DEBUG, INFO, WARNING or ERROR, got 'loud'"),
    ],
)
def test_bad_value(tmp_path: Path, section: str, key: str, value: str, expected: str) -> None:
    text = f"[{section}]\n{key} = {value}\n"
    reason = refusal(
        tmp_path, text if section == "directory" and key == "consensus" else text + _rest(section)
    )
    assert reason.startswith(f"[{section}] {key}: ")
    assert expected in reason


def _rest(section: str) -> str:
    return "consensus = c\n" if section == "directory" else CONSENSUS


def test_several_bad_values_are_counted(tmp_path: Path) -> None:
    reason = refusal(tmp_path, f"{CONSENSUS}[meas_params]\nmeas_duration = x\nwarmup = y\nslot = z\n")
    assert reason == "[meas_params] meas_duration: expected whole seconds, 1 to 600, got 'x' (and 2 more)"


@pytest.mark.parametrize("duration", [1, 30, 598])
def test_a_slot_holds_set_up_warmup_duration_and_drain(tmp_path: Path, duration: int) -> None:
    shortest = SETUP_S + 2 + duration + DRAIN_S
    text = f"{CONSENSUS}[meas_params]\nmeas_duration = {duration}\nwarmup = 2\nslot = {{}}\nperiod = {{}}\n"
    assert load(tmp_path, text.format(shortest, shortest * 3)).slot_s == shortest
    reason = refusal(tmp_path, text.format(shortest - 1, (shortest - 1) * 3))
    assert f"expected at least {shortest} s (set-up 15 + warmup 2 + duration {duration} + drain 5)" in reason


@pytest.mark.parametrize("deployment", [3, 4])
def test_a_deployments_number_is_below_how_many_there_are(tmp_path: Path, deployment: int) -> None:
    text = f"{CONSENSUS}[schedule]\ndeployments = 3\ndeployment = {{}}\n"
    assert load(tmp_path, text.format(2)).deployment == 2
    reason = refusal(tmp_path, text.format(deployment))
    assert reason == f"[schedule] deployment: expected a number below the 3 deployments, got {deployment}"


def test_deployments_that_share_a_secret_have_periods_of_a_day_at_most(tmp_path: Path) -> None:
    """The shared random value is another one each day."""
    text = f"{CONSENSUS}[meas_params]\nperiod = {{}}\n[schedule]\ndeployments = {{}}\n"
    assert load(tmp_path, text.format(86_400, 2)).deployments == 2
    assert load(tmp_path, text.format(172_800, 1)).period_s == 172_800
    assert refusal(tmp_path, text.format(172_800, 2)) == (
        "[meas_params] period: expected at most 86400 s where several deployments share the secret, got 172800"
    )


@pytest.mark.parametrize(
    ("text", "kinds"),
    [("none", set()), ("family", {"family"}), ("prefix  address", {"address", "prefix"})],
)
def test_kinds_of_co_location(tmp_path: Path, text: str, kinds: set[str]) -> None:
    assert load(tmp_path, f"{CONSENSUS}[schedule]\nco_location = {text}\n").co_location == kinds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[coord]\nlisten = x\n", "[coord] listen: unknown key (expected one of datadir, keydir, key, "),
        ("[meas]\n", "unknown section [meas] (expected one of [coord], [v3bw], "),
        ("[DEFAULT]\nx = 1\n", "unknown section [DEFAULT]"),
        ("[a\u2028b]\n", "unknown section [a?b]"),
        ("[tor]\ntorrc_extra_lines =\n", "[tor] torrc_extra_lines: unknown key (expected one of tor_bin)"),
        ("[coord]\nk\x1b[7m = 1\n", "[coord] k?[7m: unknown key"),
        ("datadir = x\n", "line 1: expected a [section] before the first key"),
        ("[coord]\ndatadir\n", "line 2: expected key = value"),
        ("[coord]\nkey = a\n\nkey = b\n", "line 4: [coord] key stands twice"),
        ("[coord]\n[log]\n[coord]\n", "line 3: section [coord] stands twice"),
        (b"[coord]\ndatadir = \xff\n", "not a configuration file: byte 18 is not UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), "not a configuration file: larger than"),
        (b"[coord]\ndatadir = a\0b\n[directory]\nconsensus = c\n", "[coord] datadir: expected a path, got"),
    ],
)
def test_broken_file(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert refusal(tmp_path, text).startswith(expected)


TOR = "[directory]\nsource = tor\n"


def test_a_tor_of_our_own(tmp_path: Path) -> None:
    config = load(tmp_path, TOR + "torrc_extra_lines =\n  SafeLogging 0\n\n  # no\n  Log info stdout\n")
    assert config.starts_directory_tor
    assert config.consensus is None
    assert (config.directory_tor_bin, config.directory_control) == ("tor", None)
    assert config.directory_tor_datadir == tmp_path / "data-coord" / "directory"
    assert config.directory_torrc_extra_lines == ("SafeLogging 0", "Log info stdout")


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ("127.0.0.1:9051", Address("127.0.0.1", 9051)),
        ("[::1]:9051", Address("::1", 9051)),
        ("/run/tor/control", Path("/run/tor/control")),
    ],
)
def test_a_tor_that_runs_already(tmp_path: Path, control: str, expected: object) -> None:
    config = load(tmp_path, f"{TOR}control = {control}\ntor_datadir = {'x' * 200}\n")
    assert config.directory_control == expected
    assert not config.starts_directory_tor


def test_the_path_of_a_control_socket_counts_from_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, f"{TOR}control = tor/control\n").directory_control == tmp_path / "tor" / "control"


@pytest.mark.parametrize(
    ("datadir", "expected"),
    [
        (
            "/" + "x" * 99,
            "[directory] tor_datadir: expected a path of at most 99 bytes, for the control socket in it",
        ),
        (
            "/" + "ä" * 50,
            "[directory] tor_datadir: expected a path of at most 99 bytes, for the control socket in it",
        ),
        ("/a\x01b", "[directory] tor_datadir: expected a path without control characters"),
    ],
)
def test_a_data_directory_that_tor_cannot_use(tmp_path: Path, datadir: str, expected: str) -> None:
    assert refusal(tmp_path, f"{TOR}tor_datadir = {datadir}\n").startswith(expected)
    assert load(tmp_path, f"{TOR}tor_datadir = /{'x' * 98}\n").starts_directory_tor


def test_missing_file_and_directory(tmp_path: Path) -> None:
    for path, cause in ((tmp_path / "none.conf", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=cause) as caught:
            load_coord(path)
        assert caught.value.exit_status == 2
        assert caught.value.reason.startswith(f"{path}: cannot read the configuration file: ")


def test_every_default_has_a_field_and_every_field_a_default() -> None:
    names = {str(field.alias) for field in CoordConfig.model_fields.values()}
    section, defaults = "", set()
    for line in DEFAULTS.splitlines():
        if line.startswith("["):
            section = line[1:-1]
        elif "=" in line:
            defaults.add(f"{section}.{line.partition('=')[0].strip()}")
    assert names == defaults


def test_absolute_even_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("coord.conf").write_text(CONSENSUS)
    assert os.path.isabs(load_coord(Path("coord.conf")).datadir)
