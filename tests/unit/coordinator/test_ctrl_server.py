"""The control socket with real connections: the cookie, limits, and that nobody disturbs anybody."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from coordinator.core.effects import CloseCtrl, SendToCtrl
from coordinator.core.events import CtrlClosed, CtrlSaid
from coordinator.inputs import ctrl_server
from coordinator.inputs.ctrl_server import CtrlServer, make_cookie
from flashflow.model.errors import LocalError
from flashflow.model.ids import Address

COOKIE = bytes(range(32))
LINES = ctrl_server.LINES_A_TURN
AUTHENTICATE = b"AUTHENTICATE " + COOKIE.hex().encode() + b"\n"


class Echoing(CtrlServer):
    """Answers each line with itself, as the core would answer."""

    def __init__(self) -> None:
        self.events: list[CtrlSaid | CtrlClosed] = []
        self.closings: asyncio.Queue[CtrlClosed] = asyncio.Queue()
        super().__init__(COOKIE, self._answer)

    def _answer(self, event: CtrlSaid | CtrlClosed) -> None:
        self.events.append(event)
        if isinstance(event, CtrlClosed):
            self.closings.put_nowait(event)
        else:
            self.send(SendToCtrl(event.conn, "OK", {"line": event.line}))
            if event.line == "quit":
                self.close_conn(CloseCtrl(event.conn))


@pytest_asyncio.fixture(params=["127.0.0.1", "::1"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Echoing, Address]]:
    server = Echoing()
    addr = await server.start(Address(request.param, 0))
    yield server, addr
    await server.close()


async def talk(addr: Address, *chunks: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Send the chunks, then everything the server says until it closes or we have said `quit`."""
    reader, writer = await asyncio.open_connection(*addr)
    for chunk in chunks:
        writer.write(chunk)
        await writer.drain()
    said = [line.decode().split(" ", 1) for line in (await reader.read()).splitlines()]
    writer.close()
    return [(kind, json.loads(data)) for kind, data in said]


async def test_lines_in_any_chunks_and_both_line_ends(server: tuple[Echoing, Address]) -> None:
    _, addr = server
    whole = AUTHENTICATE + b"status\r\nmeasure x wait\nquit\n"
    expected = [("OK", {}), *(("OK", {"line": line}) for line in ("status", "measure x wait", "quit"))]
    assert await talk(addr, whole) == expected
    assert await talk(addr, *(whole[i : i + 1] for i in range(len(whole)))) == expected


@pytest.mark.parametrize(
    "first",
    [b"status\n", b"AUTHENTICATE\n", b"AUTHENTICATE " + b"0" * 64 + b"\n", b"\xff\xfe\n", b"A" * 5000, b"\n"],
)
async def test_without_the_cookie_one_line_and_closed(server: tuple[Echoing, Address], first: bytes) -> None:
    echoing, addr = server
    (answer,) = await talk(addr, first + b"\nstatus\n")
    assert answer[0] == "ERR"
    assert COOKIE.hex() not in answer[1]["error"]
    assert echoing.events == []


async def test_not_utf8_is_told_and_the_connection_goes_on(server: tuple[Echoing, Address]) -> None:
    _, addr = server
    answers = await talk(addr, AUTHENTICATE + b"ab\xff\nquit\n")
    assert answers[1:] == [("ERR", {"error": "not UTF-8 (byte 2 of the line)"}), ("OK", {"line": "quit"})]


async def test_long_lines_are_refused(server: tuple[Echoing, Address]) -> None:
    _, addr = server
    assert (await talk(addr, AUTHENTICATE + b"x" * 4097 + b"\nquit\n"))[1] == (
        "ERR",
        {"error": "line too long"},
    )
    answers = await talk(addr, AUTHENTICATE + b"x" * 100_000)
    assert answers[-1] == ("ERR", {"error": "line too long (at most 4096 bytes)"})


async def test_one_that_leaves_is_reported_and_others_are_served(server: tuple[Echoing, Address]) -> None:
    echoing, addr = server
    _, half_a_line = await asyncio.open_connection(*addr)
    half_a_line.write(AUTHENTICATE + b"stat")
    await half_a_line.drain()
    assert (await talk(addr, AUTHENTICATE + b"quit\n"))[-1] == ("OK", {"line": "quit"})
    half_a_line.close()
    assert {(await echoing.closings.get()).conn for _ in range(2)} == {1, 2}
    assert not echoing.conns


async def test_number_and_patience_are_bounded(
    server: tuple[Echoing, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, addr = server
    monkeypatch.setattr(ctrl_server, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(ctrl_server, "AUTHENTICATE_WITHIN_S", 0.2)
    silent, waiting = await asyncio.open_connection(*addr)
    reader, first = await asyncio.open_connection(*addr)
    first.write(AUTHENTICATE)
    assert await reader.readline() == b"OK {}\n"
    (refused,) = await talk(addr, AUTHENTICATE)
    assert "connected already" in refused[1]["error"]
    assert b"no AUTHENTICATE in time" in await silent.read()
    waiting.close()
    first.write(b"quit\n")
    assert await reader.read() == b'OK {"line": "quit"}\n'
    first.close()


async def test_those_without_the_cookie_make_room_for_each_other_and_keep_nobody_out(
    server: tuple[Echoing, Address], monkeypatch: pytest.MonkeyPatch
) -> None:
    echoing, addr = server
    monkeypatch.setattr(ctrl_server, "MAX_STRANGERS", 4)
    reader, known = await asyncio.open_connection(*addr)
    known.write(AUTHENTICATE)
    await reader.readline()
    strangers = [await asyncio.open_connection(*addr) for _ in range(20)]
    for stranger, _ in strangers[:15]:
        assert b"others wait" in await stranger.read()
    assert len(echoing.strangers) <= 4
    assert (await talk(addr, AUTHENTICATE + b"quit\n"))[-1] == ("OK", {"line": "quit"})
    known.write(b"status\nquit\n")
    assert len((await reader.read()).splitlines()) == 2
    for _, writer in (*strangers, ("", known)):
        writer.close()


def most_at_once(echoing: Echoing) -> list[int]:
    """Grows to the most lines that were taken without the loop's turning in between."""
    most, now = [0], [0]
    answer = echoing.post

    def count(event: CtrlSaid | CtrlClosed) -> None:
        if not now[0]:
            asyncio.get_running_loop().call_soon(now.__setitem__, 0, 0)
        now[0] += 1
        most[0] = max(most[0], now[0])
        answer(event)

    echoing.post = count
    return most


@pytest.mark.parametrize(("a_turn", "bounded"), [(LINES, True), (10**6, False)])
async def test_a_controller_that_floods_leaves_the_others_their_turn(
    server: tuple[Echoing, Address], monkeypatch: pytest.MonkeyPatch, a_turn: int, bounded: bool
) -> None:
    """Without the bound thousands of lines are taken at once, which is what there is to prevent."""
    monkeypatch.setattr(ctrl_server, "LINES_A_TURN", a_turn)
    echoing, addr = server
    most = most_at_once(echoing)
    flood, other = await asyncio.gather(
        talk(addr, AUTHENTICATE + b"status\n" * 5000 + b"quit\n"), talk(addr, AUTHENTICATE + b"quit\n")
    )
    assert (len(flood), len(other)) == (5002, 2)
    assert (most[0] <= 2 * LINES) if bounded else (most[0] > 10 * LINES)


async def test_strangers_fill_no_log(
    server: tuple[Echoing, Address], caplog: pytest.LogCaptureFixture
) -> None:
    _, addr = server
    for number in range(20):
        await talk(addr, b"AUTHENTICATE " + f"{number:064x}".encode() + b"\n")
    (line,) = caplog.messages
    assert line.startswith(f"refused a controller from {addr.host}: authentication failed")


async def test_port_in_use_is_one_line(server: tuple[Echoing, Address]) -> None:
    _, addr = server
    with pytest.raises(LocalError, match=r"ctrl_addr\): .*in use"):
        await Echoing().start(addr)


def test_cookie_is_private_and_new_each_time(tmp_path: Path) -> None:
    first, second = make_cookie(tmp_path), make_cookie(tmp_path)
    file = tmp_path / "control_auth_cookie"
    assert file.read_bytes() == second != first
    assert file.stat().st_mode & 0o777 == 0o600
