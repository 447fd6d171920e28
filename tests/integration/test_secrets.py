"""Secrets stay out of the logs, at DEBUG too: of a whole measurement's processes, and of a session with known tokens."""

import asyncio
import base64
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from coordinator.inputs.ctrl_server import CtrlServer, make_cookie
from flashflow.demo.child import Child
from flashflow.demo.deployment import Deployment
from flashflow.demo.plan import Plan
from flashflow.model.ids import Address
from flashflow.shell.sessionclient import Connected, Disconnected, ServerMessage
from flashflow.shell.sessions import PeerMessage, PeerRefused
from support.both_loops import both_loops
from support.keyring import Keyring
from support.session_net import hello, running
from support.wire_pair import TOKEN, order, report

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(.+?)-----END", re.DOTALL)
_OF_16_BYTES = re.compile(r"(?<![0-9A-Fa-f])[0-9a-f]{32}(?![0-9A-Fa-f])")
"""Tokens and epochs are so many hexadecimal digits; nothing that may be logged is."""


class Talkative(Deployment):
    """All its services log at DEBUG."""

    def start_child(self, name: str, argv: Sequence[str]) -> Child:
        """Start a process whose log tells everything."""
        if argv[-1].endswith(".conf"):
            with Path(argv[-1]).open("a") as config:
                config.write("[log]\nlevel = DEBUG\n")
        elif name.startswith("relay"):
            argv = [*argv, "--verbose"]
        return super().start_child(name, argv)


def spellings(secret: bytes) -> list[str]:
    """How bytes may look in a log."""
    encoded = base64.b64encode(secret).decode().rstrip("=")
    return [secret.hex(), secret.hex().upper(), encoded, repr(secret)[2:-1]]


def key_lines(pem: str) -> list[str]:
    """The lines of the private keys in a PEM file."""
    return [line for key in _PRIVATE_KEY.findall(pem) for line in key.split()]


def shown(logged: str, known: Sequence[str]) -> list[str]:
    """The secrets that a log shows: those known, and whatever has the form of a token."""
    return [secret for secret in known if secret in logged] + _OF_16_BYTES.findall(logged)


def secrets_in(folder: Path) -> list[str]:
    """Of every file below `folder` that has one."""
    found: list[str] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if path.suffix == ".pem":
            found += key_lines(path.read_text())
        elif path.name == "control_auth_cookie":
            found += spellings(path.read_bytes())
        elif path.name == "schedule_secret":
            found += spellings(bytes.fromhex(path.read_text().strip()))
    return found


@pytest.mark.parametrize(
    "line",
    [
        f"sent token={TOKEN} to m1",
        f"knock {bytes(range(16)).hex()}.{bytes(range(7, 23)).hex()}.flashflow.invalid",
        f"cookie {bytes(range(32)).hex()}",
        f"key {base64.b64encode(bytes(range(32))).decode()}",
    ],
)
def test_a_secret_in_a_log_would_be_found(line: str) -> None:
    assert shown(f"DEBUG x: {line}\n", spellings(bytes(range(32))))


def test_what_may_be_logged_is_not_taken_for_a_secret() -> None:
    line = f"relay {'AB' * 20} measured, certificate {'0f' * 32} of m1 renewed, id 123456789"
    assert shown(line, spellings(bytes(32))) == []


def test_a_measurement_at_debug_shows_no_token_cookie_key_or_secret(tmp_path: Path) -> None:
    with Talkative(Plan((20.0,), 2, 0.0, "127.0.0.1"), tmp_path) as running_all:
        running_all.start()
        (relay,) = running_all.relays
        with running_all.ctrl() as client:
            client.request("measure", relay.fingerprint, "wait")
            results = list(client.events())
        known = secrets_in(tmp_path)
        asyncio.run(show_a_wrong_cookie(running_all._access.address))
    assert results[-1]["outcome"] == "ok"
    logs = {path.name: path.read_text("utf-8", "replace") for path in (tmp_path / "logs").iterdir()}
    assert "refused a controller" in logs["coordinator.log"]
    assert relay.fingerprint in logs["coordinator.log"]
    cookies = len(list(tmp_path.rglob("control_auth_cookie")))
    assert (cookies, len(known)) == (4, 4 * cookies + 4 + 3 * 3), (
        "of four ports, a schedule, three private keys"
    )
    found = {name: shown(text, [*known, WRONG_COOKIE]) for name, text in logs.items()}
    assert {name: secret for name, secret in found.items() if secret} == {}


WRONG_COOKIE = "5a" * 32


async def show_a_wrong_cookie(addr: Address) -> None:
    """Also a cookie that is not the right one may be somebody's: of another coordinator."""
    reader, writer = await asyncio.open_connection(addr.host, addr.port)
    writer.write(f"AUTHENTICATE {WRONG_COOKIE}\n".encode())
    assert (await reader.read()).startswith(b"ERR")
    writer.close()


@both_loops
async def test_a_session_at_debug_shows_no_token_epoch_or_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keys = Keyring(tmp_path, "m1", "m2")
    ctrl = CtrlServer(make_cookie(tmp_path), lambda event: None)
    addr = await ctrl.start(Address("127.0.0.1", 0))
    async with running(keys, "127.0.0.1") as net:
        client = net.client("m1")
        await client.told.wait_of(Connected)
        net.server.send("m1", order())
        await client.told.wait_of(ServerMessage)
        client.session.send(report(1))
        await net.told.wait_of(PeerMessage)
        client.cut()
        await client.told.wait_of(Disconnected)
        net.server.send("nobody", order())
        _, writer = await net.raw("m2")
        writer.write(hello("m1"))
        refused = await net.told.wait_of(PeerRefused)
        writer.close()
        await show_a_wrong_cookie(addr)
        await client.told.wait_of(Connected, 2)
    await ctrl.close()
    said = "\n".join([*caplog.messages, *(event.reason for event in refused), repr(net.told.events)])
    assert "ConnectToRelay" in repr(client.told.events)
    assert "lost" in said
    assert shown(said + repr(client.told.events), [TOKEN, *secrets_in(tmp_path)]) == []
