"""`flashflow init`, then `flashflow config check` on what it made, through the command line."""

import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flashflow.cli import main
from flashflow.config.coord import load_coord
from flashflow.config.measurer import load_measurer
from flashflow.directory.filter import RelayFilter, load_filter
from flashflow.keys.certificates import load_certificate, load_own, load_peer_certs

ROOT = Path(__file__).parents[2]


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    status = main([str(arg) for arg in args])
    output = capsys.readouterr()
    return status, output.out, output.err


def modes(folder: Path) -> dict[str, int]:
    found = {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    return {**found, ".": stat.S_IMODE(folder.stat().st_mode)}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_coord(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "coord"
    status, out, err = run(capsys, "init", "coord", folder)
    assert (status, err) == (0, "")
    assert modes(folder) == {
        ".": 0o700,
        "coord.conf": 0o600,
        "relay_filter": 0o600,
        "data-coord": 0o700,
        "data-coord/keys": 0o700,
        "data-coord/keys/coord.pem": 0o600,
        "data-coord/keys/coord.cert.pem": 0o644,
    }
    config = load_coord(folder / "coord.conf")
    own = load_own(config.key, datetime.now(UTC))
    assert own.name == "coord"
    assert load_certificate(folder / "data-coord/keys/coord.cert.pem").fingerprint == own.fingerprint
    assert load_peer_certs(config.keydir, own) == {}, "no measurer is trusted yet"
    assert load_filter(config.relay_filter) == RelayFilter(), "nothing is measured yet"
    for word in (
        "listen_addr",
        "coord.cert.pem",
        "relay_filter",
        f"flashflow coord --config {folder}/coord.conf",
    ):
        assert word in out


def test_measurer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "m"
    status, out, err = run(capsys, "init", "measurer", folder, "--name", "m-1.example")
    assert (status, err) == (0, "")
    assert modes(folder) == {
        ".": 0o700,
        "measurer.conf": 0o600,
        "data-meas": 0o700,
        "data-meas/keys": 0o700,
        "data-meas/keys/measurer.pem": 0o600,
        "data-meas/keys/m-1.example.cert.pem": 0o644,
    }
    assert load_own(load_measurer(folder / "measurer.conf").key, datetime.now(UTC)).name == "m-1.example"
    for word in ("coord_addr", "data-meas/keys/coord.pem", "data-meas/keys/m-1.example.cert.pem", "max_rate"):
        assert word in out


def test_the_certificates_named_in_the_next_steps_make_both_sides_trust_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "init", "coord", tmp_path / "c")
    for name in ("m1", "m2"):
        run(capsys, "init", "measurer", tmp_path / name, "--name", name)
        cert = tmp_path / name / f"data-meas/keys/{name}.cert.pem"
        (tmp_path / "c/data-coord/keys" / cert.name).write_bytes(cert.read_bytes())
        settings = load_measurer(tmp_path / name / "measurer.conf")
        settings.coord_cert.write_bytes((tmp_path / "c/data-coord/keys/coord.cert.pem").read_bytes())
        assert load_certificate(settings.coord_cert).name == "coord"
    config = load_coord(tmp_path / "c" / "coord.conf")
    assert sorted(load_peer_certs(config.keydir, load_own(config.key, datetime.now(UTC)))) == ["m1", "m2"]


def test_a_measurers_name_is_its_hosts_by_default(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host7.example.org")
    assert run(capsys, "init", "measurer", tmp_path / "m")[0] == 0
    assert (tmp_path / "m/data-meas/keys/host7.cert.pem").is_file()


@pytest.mark.parametrize(
    ("kind", "present"),
    [
        ("coord", "coord.conf"),
        ("coord", "relay_filter"),
        ("coord", "data-coord/keys/coord.pem"),
        ("coord", "data-coord/keys/m1.pem"),
        ("measurer", "measurer.conf"),
        ("measurer", "data-meas/keys/measurer.pem"),
    ],
)
def test_nothing_is_overwritten_and_nothing_made_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, present: str
) -> None:
    path = tmp_path / present
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("precious")
    status, out, err = run(capsys, "init", kind, tmp_path, "--name", "n")
    assert (status, out) == (1, "")
    assert err == f"flashflow init: {path}: exists already and is not overwritten; nothing was made\n"
    assert contents(tmp_path) == {path: b"precious"}


def test_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "init", "coord", tmp_path / "c")[0] == 0
    before = contents(tmp_path)
    assert run(capsys, "init", "coord", tmp_path / "c")[0] == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["", "a b", "../x", ".hidden", "a" * 65, "ü"])
def test_a_bad_name_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for kind in ("coord", "measurer"):
        status, _, err = run(capsys, "init", kind, tmp_path / "d", "--name", name)
        assert status == 2
        assert err.startswith("flashflow init: not a name: ")
        assert not (tmp_path / "d").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = run(capsys, "init", "coord", tmp_path / "file" / "c")
    assert status == 1
    assert err.startswith("flashflow init: ")
    assert err.count("\n") == 1


def test_check_says_what_is_missing_and_that_the_rest_is_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "init", "coord", tmp_path)
    run(capsys, "init", "measurer", tmp_path, "--name", "m1")
    status, out, err = run(capsys, "config", "check", tmp_path / "measurer.conf")
    assert (status, out.count("\n")) == (0, 1)
    assert out.startswith(
        f"{tmp_path}/measurer.conf: OK, a measurer: coordinator at localhost:12934, at most 1000 Mbit/s"
    )
    assert err == f"warning: [measurer] coord_cert: no such file yet: {tmp_path}/data-meas/keys/coord.pem\n"
    (tmp_path / "coord.conf").write_text("[directory]\nconsensus = c\n")
    status, out, err = run(capsys, "config", "check", tmp_path / "coord.conf")
    assert status == 0
    assert out == (
        f"{tmp_path}/coord.conf: OK, a coordinator: measurers at localhost:12934, controllers at localhost:12935, "
        "30 s in slots of 60 s, relay filter with 0 rules (0 allow)\n"
    )
    assert err == f"warning: [directory] consensus: no such file yet: {tmp_path}/c\n"


def test_check_warns_of_each_loop_rule_and_refuses_a_broken_filter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "init", "coord", tmp_path)
    relay_filter = tmp_path / "relay_filter"
    relay_filter.write_text(f"deny {'C' * 40}\nallow {'A' * 40} mode=loop\nallow {'B' * 40}\n")
    status, out, err = run(capsys, "config", "check", tmp_path / "coord.conf")
    assert status == 0
    assert "3 rules (2 allow)" in out
    assert (
        f"warning: {relay_filter}, line 2: mode=loop loads {'A' * 40} to its limit without asking it\n" in err
    )
    relay_filter.write_text("allow everything\n")
    status, out, err = run(capsys, "config", "check", tmp_path / "coord.conf")
    assert (status, out) == (2, "")
    assert err.startswith(f"flashflow config: {relay_filter}, line 1: ")


@pytest.mark.parametrize(
    ("text", "args", "expected"),
    [
        ("[coord]\nlisten_addr = x\n", (), "[coord] listen_addr: expected host:port or [IPv6]:port, got 'x'"),
        ("[measurer]\nmax_rate = x\n", (), "[measurer] max_rate: expected Mbit/s, 0.1 to 1000000, got 'x'"),
        ("[measurer]\n", ("--kind", "coord"), "unknown section [measurer]"),
        (
            "[coord]\n[measurer]\n",
            (),
            "has sections of both a coordinator and a measurer: use --kind coord|measurer",
        ),
        ("[log]\n", (), "has sections of neither a coordinator nor a measurer: use --kind coord|measurer"),
    ],
)
def test_check_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, args: tuple[str, ...], expected: str
) -> None:
    path = tmp_path / "some.conf"
    path.write_text(text)
    status, out, err = run(capsys, "config", "check", path, *args)
    assert (status, out) == (2, "")
    assert err.startswith(f"flashflow config: {path}: {expected}")
    assert err.count("\n") == 1


def test_check_of_a_file_without_sections_of_its_own_takes_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.conf"
    path.write_text("[log]\nlevel = debug\n")
    status, out, _ = run(capsys, "config", "check", path, "--kind", "measurer")
    assert status == 0
    assert "OK, a measurer" in out


@pytest.mark.parametrize("args", [("init",), ("config",)])
def test_without_a_command_the_help_is_shown(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...]
) -> None:
    status, out, _ = run(capsys, *args)
    assert status == 0
    assert "Usage: flashflow" in out


@pytest.mark.parametrize("name", ["coord.conf", "measurer.conf", "relay_filter"])
def test_the_examples_in_the_root_are_the_packages(name: str) -> None:
    shown = ROOT / f"{name}.example"
    shipped = ROOT / "flashflow/config/examples" / f"{name}.example"
    assert os.path.samefile(shown, shipped)
