"""Every parser of bytes that come from outside, as a function of bytes that may raise our own errors and nothing else."""

from collections.abc import Callable
from pathlib import Path

from coordinator.core import events as ev
from flashflow.ctrl.protocol import CtrlRefusedError, parse_reply
from flashflow.directory.consensus import read_consensus, split_entries
from flashflow.directory.entries import read_descriptor
from flashflow.directory.filter import RelayFilter
from flashflow.model.errors import FlashFlowError
from flashflow.orlink import certs, certs_cell, extend, meas, netinfo, relaycell
from flashflow.orlink.cells import CellReader
from flashflow.torctl.commands import parse_command
from flashflow.torctl.events import parse_event
from flashflow.torctl.session import ControlSession, Facts
from flashflow.wire.knock import record_bytes, server_name
from flashflow.wire.rules import Role
from flashflow.wire.session import Session
from support.coordinator_world import World
from support.orlink_keys import NOW_UTC_S, initiator, responder
from support.wire_pair import epoch

CORPUS = Path(__file__).parent / "corpus"
"""A folder for each target: seeds, and whatever was found."""
COOKIE = bytes(32)


def cells(data: bytes) -> None:
    """A relay's cells, in two portions."""
    reader = CellReader()
    half = len(data) // 2
    for portion in (data[:half], data[half:]):
        reader.feed(portion)
        while reader.next() is not None:
            pass


def cell_payloads(data: bytes) -> None:
    """What cells hold; the first byte chooses which."""
    parsers: list[Callable[[bytes], object]] = [
        meas.parse_measurement,
        netinfo.parse_netinfo,
        extend.parse_extend2,
        extend.parse_create2,
        extend.parse_created2,
        relaycell.parse_relay_cell,
    ]
    if data:
        parsers[data[0] % len(parsers)](data[1:])


def certificates(data: bytes) -> None:
    """CERTS cells, and the certificates in them."""
    certs_cell.verify_responder(data, b"der", NOW_UTC_S)
    certs.verify_ed25519_cert(data, certs.CertType.SIGNING, None, NOW_UTC_S)


def handshake(data: bytes) -> None:
    """Both sides of the link handshake; the first byte chooses."""
    (initiator() if data[:1] < b"\x80" else responder()).receive(data[1:])


def frames(data: bytes) -> None:
    """The session's frames; the first byte chooses the side."""
    coordinator = data[:1] < b"\x80"
    session = Session(Role.COORDINATOR if coordinator else Role.MEASURER, "us", 1, epoch(1))
    session.connected(0.0, epoch(2))
    session.receive(data[1:], 0.0)
    session.data_to_send(0.0)


def client_hello(data: bytes) -> None:
    """A stranger's first bytes."""
    server_name(data)
    record_bytes(data)


def control_lines(data: bytes) -> None:
    """What a controller says to torclient."""
    session = ControlSession(Facts(COOKIE, "/c", {"version": "1"}, {}))
    session.receive(b"AUTHENTICATE " + COOKIE.hex().encode() + b"\n")
    session.receive(data)
    parse_command(data.decode("latin-1"))


def control_events(data: bytes) -> None:
    """What a Tor client says to us."""
    parse_event(data.decode("utf-8", "replace"))


def ctrl_lines(data: bytes) -> None:
    """What a controller says to the coordinator."""
    world = World()
    world.start()
    for line in data.decode("utf-8", "replace").split("\n")[:5]:
        world.say(ev.CtrlSaid(1, line))


def ctrl_replies(data: bytes) -> None:
    """What the coordinator says to its controller."""
    parse_reply(data)


def relay_filter(data: bytes) -> None:
    """The relay filter file."""
    RelayFilter.parse(data.decode("utf-8", "replace"), "filter")


def consensus(data: bytes) -> None:
    """A consensus, of either flavour."""
    read_consensus("consensus", data, {}, [], microdesc=data[:1] == b"@")


def descriptors(data: bytes) -> None:
    """Server descriptors."""
    for block in split_entries(data.splitlines(keepends=True), b"router "):
        read_descriptor(block)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        cells,
        cell_payloads,
        certificates,
        handshake,
        frames,
        client_hello,
        control_lines,
        control_events,
        ctrl_lines,
        ctrl_replies,
        relay_filter,
        consensus,
        descriptors,
    )
}


def run(target: Callable[[bytes], None], data: bytes) -> None:
    """One input. Any exception but our own errors comes out: it is a finding."""
    try:
        target(data)
    except (FlashFlowError, CtrlRefusedError) as error:
        if "\n" in error.reason:
            raise ValueError("a reason is one line") from error
