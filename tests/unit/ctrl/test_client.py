"""The client against a scripted coordinator."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from flashflow.ctrl.access import Access
from flashflow.ctrl.client import CtrlClient
from flashflow.ctrl.protocol import CtrlRefusedError
from flashflow.model.errors import LocalError, NetworkError, PeerError
from flashflow.model.ids import Address
from support.scripted_ctrl import ScriptedCtrl

Script = Callable[[Mapping[str, bytes]], ScriptedCtrl]


@pytest.fixture(params=["127.0.0.1", "::1"])
def script(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Script]:
    started: list[ScriptedCtrl] = []

    def start(answers: Mapping[str, bytes]) -> ScriptedCtrl:
        started.append(ScriptedCtrl(tmp_path, answers, request.param))
        return started[-1]

    yield start
    for server in started:
        server.close()


def test_cookie_first_then_commands(script: Script) -> None:
    server = script({"status": b'OK {"state": "ready"}\n', "relays": b'OK {"relays": []}\r\n'})
    with CtrlClient(server.access) as client:
        assert client.request("status") == {"state": "ready"}
        assert client.request("relays") == {"relays": []}
    assert server.received[0] == "AUTHENTICATE " + bytes(range(32)).hex()


def test_a_refusal_is_the_coordinators_own_line(script: Script) -> None:
    server = script({"measure nobody": b'ERR {"error": "no such relay:\\n nobody"}\n'})
    with (
        CtrlClient(server.access) as client,
        pytest.raises(CtrlRefusedError, match=r"^no such relay: nobody$"),
    ):
        client.request("measure", "nobody")


def test_events_end_with_done(script: Script) -> None:
    server = script(
        {
            "measure a wait": b'OK {"meas_id": 1}\nEVENT {"event": "phase", "phase": "ACTIVE"}\n'
            b'EVENT {"event": "done", "outcome": "ok"}\nEVENT {"event": "too late"}\n'
        }
    )
    with CtrlClient(server.access) as client:
        client.request("measure", "a", "wait")
        assert [event["event"] for event in client.events()] == ["phase", "done"]


def test_the_coordinator_goes_away_between_events(script: Script) -> None:
    server = script({"measure a wait": b"OK {}\n"})
    with CtrlClient(server.access) as client:
        client.request("measure", "a", "wait")
        with pytest.raises(NetworkError, match="closed the connection"):
            client.request("unscripted")


@pytest.mark.parametrize("answer", [b"EVENT {}\n", b"hello\n", b"OK nothing\n"])
def test_another_protocol_is_the_peers_fault(script: Script, answer: bytes) -> None:
    server = script({"status": answer})
    with CtrlClient(server.access) as client, pytest.raises(PeerError):
        client.request("status")


def test_half_a_line_is_a_closed_connection(script: Script) -> None:
    server = script({"status": b'OK {"st', "x": b""})
    with (
        CtrlClient(server.access, answer_s=0.2) as client,
        pytest.raises(NetworkError, match="did not answer"),
    ):
        client.request("status")


def test_an_answer_that_never_comes(script: Script) -> None:
    server = script({"measure a wait": b'OK {}\nEVENT {"event": "phase"}\n', "status": b""})
    silent = pytest.raises(NetworkError, match=r"did not answer in 0\.2 s")
    with CtrlClient(server.access, answer_s=0.2, event_s=0.1) as client, silent:
        client.request("status")
    with CtrlClient(server.access, answer_s=0.2, event_s=0.1) as client:
        client.request("measure", "a", "wait")
        events = client.events()
        assert next(events) == {"event": "phase"}
        with pytest.raises(NetworkError, match=r"did not answer in 0\.1 s"):
            next(events)


def test_a_measurement_that_waits_for_capacity_is_waited_for(script: Script) -> None:
    """No event for longer than answers and later events may take: then the connection closes, and that is told."""
    server = script({"measure a wait": b"OK {}\n"})
    with CtrlClient(server.access, answer_s=0.05, event_s=0.05) as client:
        client.request("measure", "a", "wait")
        threading.Timer(0.3, client._socket.sendall, (b"unscripted\n",)).start()  # the server closes on it
        with pytest.raises(NetworkError, match=r"closed the connection|is gone"):
            next(client.events())


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = Address("127.0.0.1", gone.getsockname()[1])
    with pytest.raises(
        NetworkError, match=f"no coordinator listens at {address}: is flashflow coord running"
    ):
        CtrlClient(Access(address, tmp_path / "none"))


def test_the_cookie_is_missed_only_once_somebody_listens(script: Script, tmp_path: Path) -> None:
    server = script({})
    with pytest.raises(LocalError, match="cannot read the coordinator's cookie"):
        CtrlClient(Access(server.access.address, tmp_path / "none"))
