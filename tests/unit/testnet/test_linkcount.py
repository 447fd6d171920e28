import json
import threading
import time
from pathlib import Path

import pytest

from flashflow.model.errors import LocalError
from flashflow.testnet.linkcount import parse_device, parse_segments_twice, read_link

START_S = 1_800_000_000.0
PACKET_BYTES = 1514
PROC_NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
relay0: 1514000    1000    0    0    0     0          0         0    66000     900    0    7    0     0       0          0
relay01:      1       2    0    0    0     0          0         0        3       4    0    0    0     0       0          0
"""


def record(path: Path, *packets_per_s: int, acks_per_s: int = 0, start_s: float = START_S) -> Path:
    """A file with a reading every tenth of a second from `start_s` on: full packets, and mere acknowledgements."""
    lines, read_bytes, read_packets = [], 0.0, 0.0
    for n in range(10 * len(packets_per_s) + 1):
        reading = {"utc_s": start_s + n / 10, "read_bytes": read_bytes, "read_packets": read_packets}
        lines.append(reading | {"written_bytes": 0, "written_packets": 0, "segments_twice": n})
        if n < 10 * len(packets_per_s):
            full = packets_per_s[n // 10] / 10
            read_bytes += PACKET_BYTES * full + 66 * acks_per_s / 10
            read_packets += full + acks_per_s / 10
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_headers_and_acknowledgements_are_no_payload(tmp_path: Path) -> None:
    found = read_link(record(tmp_path / "link", 1000, 2000, 3000, 9000, acks_per_s=500), START_S, 3)
    assert found.raw_mbps == pytest.approx((2000 * 1514 + 500 * 66) / 125_000)
    assert found.payload_mbps == pytest.approx(2000 * 1448 / 125_000)
    assert found.cell_mbps == pytest.approx(2000 * 1448 / 125_000 * 16_384 / 16_406)
    assert found.packets_per_s == pytest.approx(2500)
    assert found.per_second_cell_mbps == pytest.approx([n * found.cell_mbps / 2 for n in (1, 2, 3)])
    assert found.segments_twice == 30


def test_seconds_begin_where_they_are_asked_to(tmp_path: Path) -> None:
    found = read_link(record(tmp_path / "link", 1000, 2000, 3000), START_S + 0.75, 2)
    assert found.payload_mbps == pytest.approx((1750 + 2750) / 2 * 1448 / 125_000)


@pytest.mark.parametrize(("begin_s", "seconds"), [(-0.2, 2), (0.5, 3), (100.0, 1)])
def test_seconds_that_were_not_recorded_have_no_figure(tmp_path: Path, begin_s: float, seconds: int) -> None:
    path = record(tmp_path / "link", 1000, 2000, 3000)
    with pytest.raises(LocalError, match=rf"link: does not cover the {seconds} s from"):
        read_link(path, START_S + begin_s, seconds)


def test_a_reading_that_may_still_come_is_waited_for(tmp_path: Path) -> None:
    now_s = time.time()
    lines = record(tmp_path / "link", 1000, start_s=now_s - 0.9).read_text().splitlines(keepends=True)
    (tmp_path / "link").write_text("".join(lines[:-1]))
    late = threading.Timer(0.2, lambda: (tmp_path / "link").write_text("".join(lines)))
    late.start()
    assert read_link(tmp_path / "link", now_s - 0.9, 1).packets_per_s == pytest.approx(1000)
    late.join()


def test_an_empty_record_has_no_figure(tmp_path: Path) -> None:
    (tmp_path / "link").write_text('{"utc_s": 1')
    with pytest.raises(LocalError, match="does not cover"):
        read_link(tmp_path / "link", START_S, 1)


@pytest.mark.parametrize("line", ["", "7", "[]", "{}", '{"utc_s": "x"}', "\x00"])
def test_another_file_is_told_from_a_record(tmp_path: Path, line: str) -> None:
    path = record(tmp_path / "link", 8)
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(LocalError, match=r"line 12: .* is no reading of counters"):
        read_link(path, START_S, 1)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot read the link's record"):
        read_link(tmp_path / "link", START_S, 1)


def test_a_device_s_counters_are_found_by_its_whole_name() -> None:
    assert parse_device(PROC_NET_DEV, "relay0") == {
        "read_bytes": 1_514_000,
        "read_packets": 1000,
        "written_bytes": 66_000,
        "written_packets": 900,
    }
    with pytest.raises(LocalError, match="no interface relay"):
        parse_device(PROC_NET_DEV, "relay")


def test_segments_received_twice_are_those_in_order_and_out_of_order() -> None:
    text = "TcpExt: SyncookiesSent TCPDSACKOldSent TCPDSACKOfoSent\nTcpExt: 1 20 3\nIpExt: InNoRoutes\nIpExt: 9\n"
    assert parse_segments_twice(text) == 23
    assert parse_segments_twice("IpExt: InNoRoutes\nIpExt: 9\n") == 0
