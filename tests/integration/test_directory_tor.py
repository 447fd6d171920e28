"""Relays from the distribution's tor: run by us or attached to, killed under us, and under a whole coordinator."""

import base64
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flashflow.ctrl.access import Access
from flashflow.ctrl.client import CtrlClient
from flashflow.demo.child import Child, stop_all
from flashflow.keys.certificates import keygen
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address, parse_address
from flashflow.shell.parent import own_command
from flashflow.shell.torcontrol import ControlPlace
from flashflow.testnet.ports import free_ports
from support.processes import has_ended, left_of
from support.real_tor import RealTor, need_tor
from support.tor_directory import LONELY, Told, network_of, tor_directory, tors_of, until
from support.waiting import wait_for

FAMILY = "A" * 40


async def test_smoke_tor_is_kept_running_without_a_consensus(tmp_path: Path) -> None:
    need_tor()
    strange = tmp_path / 'a "b" \\ # c'  # what a torrc has to quote
    async with tor_directory(strange, LONELY) as (_, told):
        await until(lambda: bool(told.failures), "it tells that it has no consensus")
        assert told.failures == [
            f"tor at {strange}/control: has no consensus yet, or UseMicrodescriptors 1: "
            "Could not open cached consensus. Make sure FetchUselessDescriptors is set to 1."
        ]
        (first,) = tors_of(os.getpid())
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: len(told.failures) == 2, "it tells that tor is gone")
        assert "directory's tor" in told.failures[1]
        await until(lambda: len(tors_of(os.getpid())) == 1, "tor runs again")
        (second,) = tors_of(os.getpid())
        assert second.pid != first.pid
    assert has_ended(second)
    assert told.readings == []


async def test_a_program_that_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with tor_directory(tmp_path / "tor", (), tor_bin="/nonexistent/tor") as (_, told):
        await until(lambda: bool(told.failures), "it tells that tor does not start")
    assert told.failures[0] == "the directory's tor ended while it started: its own message says why"
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "error: cannot run /nonexistent/tor: No such file or directory\n")


async def test_a_wrong_torrc_is_tors_own_message(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    need_tor()
    async with tor_directory(tmp_path / "tor", ("Nonsense 1",)) as (_, told):
        await until(lambda: bool(told.failures), "it tells that tor does not start")
    shown = capfd.readouterr()
    assert "Unknown option 'Nonsense'" in shown.err
    assert shown.out == "", "a service's stdout is for its ready line"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_no_tor_to_attach_to(tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashflow.shell.tordriver.ATTACH_S", 0.1)
    [port] = free_ports(host, 1)
    place = Address(host, port)
    async with tor_directory(tmp_path / "tor", (), place) as (_, told):
        await until(lambda: bool(told.failures), "it tells that there is nothing")
    assert told.failures[0] == f"directory's tor at {place}: [Errno 111] Connection refused"


async def test_a_data_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "tor").mkdir()
    (tmp_path / "tor" / "torrc").mkdir()
    with pytest.raises(LocalError, match=r"cannot write .*/torrc: Is a directory"):
        async with tor_directory(tmp_path / "tor", ()):
            await until(lambda: False, "it ends by itself", 0.2)


# --- a private network: one authority, which is its only relay ---


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealTor]:
    need_tor()
    folder = tmp_path_factory.mktemp("authority")
    make_family_key(folder)
    ports = *free_ports("127.0.0.1", 1), *free_ports("::1", 1)
    extra = (
        f"ControlPort 127.0.0.1:{ports[0]}",
        f"ControlPort [::1]:{ports[1]}",
        f"ControlSocket {folder}/data/control",
        "CookieAuthentication 1",
        f"MyFamily ${FAMILY}",
        f"FamilyKeyDirectory {folder}",
        "FamilyId *",
        "RelayBandwidthRate 2 MBytes",
        "RelayBandwidthBurst 3 MBytes",
    )
    with RealTor(folder, authority=True, extra=extra) as tor:
        yield tor


def make_family_key(folder: Path) -> None:
    """FOLDER/family.secret_family_key, and its public half beside it."""
    command = ["tor", "--keygen-family", "family", "--DataDirectory", str(folder / "no-data"), "--quiet"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=30)


def control_of(authority: RealTor, kind: str) -> ControlPlace:
    """Its control port on 127.0.0.1, on ::1, or its socket."""
    if kind == "socket":
        return authority.data / "control"
    lines = (authority.folder / "torrc").read_text().splitlines()
    addresses = [parse_address(line.split()[1]) for line in lines if line.startswith("ControlPort ")]
    return next(address for address in addresses if address.host == kind)


def has_keys(told: Told) -> bool:
    """Whether the network's relay was read, and could be measured."""
    return bool(told.readings) and any(relay.measurable for relay in told.readings[-1])


@pytest.mark.net
async def test_relays_keys_and_each_new_consensus(authority: RealTor, tmp_path: Path) -> None:
    target = authority.target()
    async with tor_directory(tmp_path / "tor", network_of(authority)) as (_, told):
        await until(lambda: has_keys(told), "the relay with its keys", 90)
        (relay,) = told.readings[-1]
        known = told.headers[-1].valid_after_utc_s
        await until(lambda: told.headers[-1].valid_after_utc_s > known, "a reading after the next consensus")
    assert relay.fingerprint == target.rsa_fingerprint.hex().upper()
    assert (relay.nickname, relay.address) == ("probe", Address("127.0.0.1", authority.ports.or_v4))
    assert (relay.ed25519, relay.ntor_key) == (target.ed25519, target.ntor_key)
    assert FAMILY in relay.family
    family_key = base64.b64decode((authority.folder / "family.public_family_id").read_text().strip() + "=")
    assert relay.family_keys == (family_key,)
    assert relay.bandwidth_avg_bytes == 2 << 20
    assert relay.bandwidth_burst_bytes == 3 << 20
    assert relay.bandwidth_observed_bytes is not None


@pytest.mark.net
@pytest.mark.parametrize("kind", ["socket", "127.0.0.1", "::1"])
async def test_attached_to_a_tor_that_runs(authority: RealTor, tmp_path: Path, kind: str) -> None:
    authority.target()
    async with tor_directory(tmp_path / "tor", (), control_of(authority, kind)) as (_, told):
        await until(lambda: bool(told.readings) and told.readings[-1] != (), "the relay")
        assert told.readings[-1][0].measurable
        assert abs(told.headers[-1].valid_after_utc_s - time.time()) < 300
    assert authority.process.poll() is None, "a tor that is not ours goes on"
    assert not (tmp_path / "tor" / "torrc").exists()


@pytest.mark.net
async def test_a_tor_that_it_is_attached_to_ends_and_comes_back(authority: RealTor, tmp_path: Path) -> None:
    authority.target()
    async with tor_directory(tmp_path / "theirs", network_of(authority)) as (_, theirs):
        await until(lambda: has_keys(theirs), "a tor runs that knows the relay", 90)
        async with tor_directory(tmp_path / "ours", (), tmp_path / "theirs" / "control") as (_, ours):
            await until(lambda: has_keys(ours), "it is read by one that did not start it")
            (tor,) = (one for one in tors_of(os.getpid()) if one.pid != authority.process.pid)
            tor.kill()
            await until(lambda: bool(ours.failures), "it tells that tor is gone")
            count = len(ours.readings)
            await until(lambda: len(ours.readings) > count and has_keys(ours), "it reads again")
        assert len(tors_of(os.getpid())) == 2, "a tor that is not its own goes on"


@pytest.fixture
def coordinator(authority: RealTor, tmp_path: Path) -> Iterator[Child]:
    (tmp_path / "relay_filter").write_text(f"allow nick:PROBE\nallow family:{FAMILY}\n")
    keygen(tmp_path / "data-coord" / "keys" / "coord.pem", "coord", datetime.now(UTC))
    lines = "\n  ".join(network_of(authority))
    (tmp_path / "coord.conf").write_text(
        "[coord]\nlisten_addr = 127.0.0.1:0\nctrl_addr = 127.0.0.1:0\n"
        f"[directory]\nsource = tor\ntorrc_extra_lines =\n  {lines}\n"
    )
    child = Child("coordinator", own_command("coord", "--config", str(tmp_path / "coord.conf")), tmp_path)
    yield child
    stop_all([child], 5)


def wait_for_status(access: Access, condition: str, timeout_s: float = 90.0) -> dict[str, object]:
    """The status once the condition, an expression of its keys, holds."""
    status: dict[str, object] = {}

    def holds() -> bool:
        nonlocal status
        with CtrlClient(access) as client:
            status = client.request("status")
        return bool(eval(condition, {}, status))

    wait_for(holds, condition, timeout_s)
    return status


def relays_of(access: Access) -> list[dict[str, object]]:
    with CtrlClient(access) as client:
        return list(client.request("relays")["relays"])


@pytest.mark.net
def test_the_coordinator_outlives_its_tor_and_tor_does_not_outlive_it(
    coordinator: Child, tmp_path: Path
) -> None:
    words = dict(word.split("=", 1) for word in coordinator.wait_ready())
    access = Access(parse_address(words["ctrl"]), tmp_path / "data-coord" / "control_auth_cookie")
    wait_for_status(access, "state == 'ready' and relays == 1 and relays_error is None")
    wait_for(lambda: relays_of(access)[0]["measurable"], "its descriptor")
    (tor,) = tors_of(coordinator.pid)
    tor.kill()
    # A reading that was under way may fail first, for a reason of its own.
    lost = wait_for_status(access, '"directory\'s tor" in str(relays_error)')
    assert (lost["relays"], lost["state"]) == (1, "ready")
    assert relays_of(access)[0]["measurable"]
    wait_for_status(access, "relays == 1 and relays_error is None")
    (tor,) = tors_of(coordinator.pid)
    os.kill(coordinator.pid, signal.SIGKILL)
    assert not left_of([tor], 2)
