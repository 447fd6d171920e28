"""Faults of hosts in deployments of real processes: clocks, disks, and links that drop packets."""

import time
from collections.abc import Iterator

import pytest

from flashflow.ctrl.protocol import CtrlRefusedError
from flashflow.demo.child import ChildFailedError
from flashflow.model.errors import LocalError, NetworkError
from flashflow.shell.files import write_private
from flashflow.testnet.counts import median_read_mbps
from flashflow.testnet.links import ShapedLink
from support.fault_stack import Event, failure_of
from support.host_faults import HOUR_S, LINK_MBPS, FarStack, HostStack, SmallDisk
from support.netns import need_false_clocks, need_mounts, need_netns
from support.waiting import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240), pytest.mark.xdist_group("faults")]

# --- clocks ---


@pytest.fixture(scope="module")
def clocks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostStack]:
    """A measurer an hour fast, the other an hour slow; the relays' clocks are true."""
    need_mounts()
    need_false_clocks()
    with HostStack(tmp_path_factory.mktemp("c")) as stack:
        stack.set_clock("measurer1", HOUR_S)
        stack.set_clock("measurer2", -HOUR_S)
        stack.start()
        yield stack


def test_measurers_whose_clocks_are_an_hour_off(clocks: HostStack) -> None:
    clocks.ready()
    assert [clocks.clock_of(name) for name in ("measurer1", "measurer2")] == [HOUR_S, -HOUR_S]
    clocks.check()


@pytest.mark.parametrize("offset_s", [HOUR_S, -HOUR_S], ids=["fast", "slow"])
def test_a_coordinator_whose_clock_is_an_hour_off(clocks: HostStack, offset_s: int) -> None:
    """Its times in the store are off by that much, and by nothing else."""
    clocks.stop_coordinator()
    clocks.set_clock("coordinator", offset_s)
    clocks.start_coordinator_again()
    clocks.check()
    row = clocks.rows()[clocks.last]
    with pytest.raises(LocalError, match="nothing was counted around"):
        median_read_mbps(clocks.relays[0].counts, row["active_utc_s"], row["duration_s"])


# --- disks ---


@pytest.fixture(scope="module")
def with_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostStack]:
    need_mounts()
    with HostStack(tmp_path_factory.mktemp("d")) as stack:
        stack.start()
        yield stack


@pytest.fixture
def host(with_disk: HostStack) -> Iterator[HostStack]:
    with_disk.ready()
    yield with_disk
    with_disk.check()


@pytest.fixture
def disk(host: HostStack) -> SmallDisk:
    assert host.disk is not None
    return host.disk


def until_saving(events: Iterator[Event]) -> None:
    assert any(event.get("phase") == "saving" for event in events)


def test_a_record_waits_for_room_on_a_full_disk(host: HostStack, disk: SmallDisk) -> None:
    with host.measuring(host.relays[0]) as events:
        told = host.log().count("could not be stored")
        with disk.full():
            until_saving(events)
            wait_for(lambda: host.log().count("could not be stored") > told, "it is told", 30)
            assert host.last not in host.rows()
        assert host.end_of(events)["outcome"] == "ok"
    assert host.rows()[host.last]["result_bytes"]
    with host.ctrl() as client:
        client.request("v3bw")
        before = host.v3bw_files()
        with disk.full(), pytest.raises(CtrlRefusedError, match="v3bw file: No space left"):
            client.request("v3bw")
    assert host.v3bw_files() == before, "nothing half"


def test_the_coordinator_is_killed_while_a_record_waits_for_room(host: HostStack, disk: SmallDisk) -> None:
    with host.measuring(host.relays[0]) as events:
        told = host.log().count("could not be stored")
        with disk.full():
            until_saving(events)
            wait_for(lambda: host.log().count("could not be stored") > told, "it is not stored", 30)
            host.child("coordinator").kill()
            with pytest.raises(NetworkError):
                list(events)
    assert host.last not in host.rows()
    host.start_coordinator_again()
    host.ready()
    row = host.rows()[host.last]
    assert (row["failure_fault"], row["failure_reason"]) == (
        "ours",
        "the coordinator ended during the measurement",
    )


def test_a_coordinator_does_not_start_without_its_store(host: HostStack, disk: SmallDisk) -> None:
    """One line, which names the place and what is the matter with it."""
    host.stop_coordinator()
    for fault, said in (
        (disk.full(), f"{host.database}: results database: disk I/O error: the disk is full"),
        (disk.read_only(), f"{host.database}: cannot be written: no permission, or a read-only file system"),
    ):
        with fault, pytest.raises(ChildFailedError) as failed:
            host.start_coordinator_again()
        assert failed.value.child.returncode == 1
        assert host.log().split("\n") == [f"flashflow coord: {said}", ""]
    host.start_coordinator_again()


def test_a_relay_filter_that_is_damaged_while_it_runs(host: HostStack) -> None:
    """What was known before stays."""
    path = host.folder / "net" / "relay_filter"
    whole = path.read_text()
    write_private(path, whole[: len(whole) // 2].encode())  # at once: nobody reads a file that is empty
    wait_for(lambda: f"{path}, line 2: expected " in host.log(), "it is told", 30)
    assert host.measure(host.relays[0])["outcome"] == "ok"
    write_private(path, whole.encode())


# --- a link that drops packets ---


@pytest.fixture(scope="module")
def far_team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarStack]:
    need_netns()
    with ShapedLink(LINK_MBPS) as link, FarStack(tmp_path_factory.mktemp("n"), link) as stack:
        stack.start()
        yield stack


@pytest.fixture
def far(far_team: FarStack) -> Iterator[FarStack]:
    far_team.ready()
    yield far_team
    far_team.check()


def test_packets_are_dropped_for_two_seconds(far: FarStack) -> None:
    with far.measuring(far.relays[0], "second") as events:
        with far.dropping():
            time.sleep(2)
        done = far.end_of(events)
    assert done["outcome"] == "ok", done


def test_packets_are_dropped_until_the_measurement_fails(far: FarStack) -> None:
    with far.measuring(far.relays[0]) as events, far.dropping():
        fault, reason = failure_of(far.end_of(events))
        assert (fault, reason) == ("measurer", "measurer measurer1 gave 0 of 3 reports in time")
        wait_for(lambda: far.status()["measurers"] == 1, "its session is given up", 30)
        assert far.measure(far.relays[1])["outcome"] == "ok", "by the other measurer"
