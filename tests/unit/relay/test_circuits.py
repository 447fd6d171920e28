from dataclasses import dataclass, field

import pytest

from flashflow.model.errors import PeerError
from flashflow.orlink import bulk, extend, ntor
from flashflow.orlink.cells import (
    CELL_BYTES,
    PAYLOAD_BYTES,
    Cell,
    CellReader,
    Command,
    MeasCommands,
    encode_cell,
)
from flashflow.orlink.meas import MeasBg, MeasErr, MeasErrCode, MeasJoin, MeasParamsOk, Measurement
from flashflow.orlink.relaycell import RelayCell, RelayCommand
from flashflow.orlink.relaycrypto import ClientHop
from flashflow.relay.buffers import Buffer
from flashflow.relay.circuits import Circuits, Services
from flashflow.relay.core.effects import Role
from flashflow.relay.core.events import CircuitGone, EchoBegan, ErrReceived, JoinReceived, ParamsReceived
from flashflow.relay.echo import Echo
from flashflow.relay.table import MAX_CIRCUITS
from support.mini_client import params
from support.orlink_keys import relay_keys

CIRC = 0x80000001
CERTIFICATE = b"c" * 32


@dataclass
class Party:
    number: int = 4
    host: str = "192.0.2.1"
    certificate: bytes | None = CERTIFICATE
    role: Role = Role.STRANGER
    closing: bool = False


@dataclass
class Bench:
    """Circuits of one link, and what they did."""

    loop: bool = False
    accept_joins: bool = True
    close_on_echo: bool = False
    party: Party = field(default_factory=Party)
    out: Buffer = field(default_factory=lambda: Buffer(1 << 18))
    events: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keys = relay_keys()
        services = Services(
            node_id=self.keys.identity.rsa_fingerprint,
            ntor_private=self.keys.ntor_private,
            commands=MeasCommands(),
            loop=self.loop,
            echo=Echo(),
            random=lambda count: b"r" * count,
            post=self._post,
        )
        self.circuits = Circuits(services, self.party, self.out)

    def _post(self, event: object) -> None:
        self.events.append(event)
        if isinstance(event, JoinReceived):
            self.party.role = Role.MEASURER if self.accept_joins else Role.STRANGER
            self.party.closing = not self.accept_joins
        if isinstance(event, EchoBegan):
            self.party.closing = self.close_on_echo

    def gets(self, command: int, *payloads: bytes, circ: int = CIRC) -> list[Cell]:
        """Hands over a run of cells and gives the answers."""
        run = bulk.as_cells(b"".join(encode_cell(Cell(circ, command, payload)) for payload in payloads))
        self.circuits.take(circ, command, run)
        reader = CellReader()
        reader.feed(self.out.filled())
        self.out.clear()
        return list(iter(reader.next, None))

    def create(self, circ: int = CIRC) -> ClientHop:
        state, onionskin = ntor.client_begin(
            self.keys.identity.rsa_fingerprint, self.keys.ntor_public, b"x" * 32
        )
        [created] = self.gets(Command.CREATE2, extend.encode_create2(onionskin), circ=circ)
        assert created.command == Command.CREATED2
        return ClientHop(ntor.client_finish(state, extend.parse_created2(created.payload)))

    def measurement(self, message: Measurement) -> list[Cell]:
        return self.gets(Command.MEASUREMENT, message.encode())


def destroys(cells: list[Cell]) -> list[tuple[int, int]]:
    return [(cell.circ_id, cell.payload[0]) for cell in cells if cell.command == Command.DESTROY]


def test_a_circuit_is_made_and_destroyed() -> None:
    bench = Bench()
    bench.create()
    assert bench.circuits.ids == (CIRC,)
    assert bench.gets(Command.DESTROY, b"\x09") == []
    assert bench.circuits.ids == ()
    assert bench.events == [CircuitGone(4, CIRC)]
    bench.gets(Command.DESTROY, b"\x09")
    assert bench.events == [CircuitGone(4, CIRC)]


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (Command.CREATE2, extend.encode_create2(bytes(84))),  # for another relay
        (Command.CREATE2, extend.encode_create2(bytes(84), 7)),
        (Command.CREATE2, b"\x00\x02\xff\xff"),
        (Command.CREATE_FAST, bytes(20)),
        (Command.CREATE, bytes(186)),
    ],
)
def test_what_cannot_be_made_is_destroyed_and_the_link_lives(command, payload) -> None:
    bench = Bench()
    assert destroys(bench.gets(command, payload)) == [(CIRC, 1)]
    assert bench.circuits.ids == ()


def test_circuit_ids_have_the_initiators_bit() -> None:
    bench = Bench()
    assert destroys(bench.gets(Command.CREATE2, bytes(100), circ=5)) == [(5, 1)]


def test_the_same_id_twice_breaks_the_protocol() -> None:
    bench = Bench()
    bench.create()
    with pytest.raises(PeerError, match="exists"):
        bench.create()


def test_circuits_are_bounded() -> None:
    bench = Bench()
    for number in range(MAX_CIRCUITS):
        bench.create(CIRC + number)
    circ = CIRC + MAX_CIRCUITS
    assert destroys(bench.gets(Command.CREATE2, bytes(100), circ=circ)) == [(circ, 5)]


@pytest.mark.parametrize("command", [Command.PADDING, Command.NETINFO, 77, Command.PADDING_NEGOTIATE])
def test_cells_of_no_interest_are_ignored(command) -> None:
    bench = Bench()
    bench.create()
    assert bench.gets(command, b"whatever") == []


def test_cells_on_unknown_circuits_are_ignored() -> None:
    bench = Bench(loop=True)
    assert bench.gets(Command.RELAY, b"x") == []
    assert bench.gets(Command.MEASUREMENT, b"\xff") == []
    assert bench.events == []


def test_relay_cells_for_nobody_come_back_with_loop_only() -> None:
    bench = Bench(loop=True)
    hop = bench.create()
    payload = b"p" * PAYLOAD_BYTES
    back = bench.gets(Command.RELAY, hop.forward.cipher.crypt(payload))
    assert [(cell.circ_id, cell.command) for cell in back] == [(CIRC, Command.RELAY)]
    assert hop.backward.cipher.crypt(back[0].payload) == payload
    plain = Bench()
    plain.create()
    assert destroys(plain.gets(Command.RELAY, payload)) == [(CIRC, 1)]
    assert plain.events == [CircuitGone(4, CIRC)]


def test_own_relay_cells_among_others_do_not_disturb_the_keystreams() -> None:
    bench = Bench(loop=True)
    hop = bench.create()
    payload = b"p" * PAYLOAD_BYTES
    cells = [
        hop.forward.cipher.crypt(payload),
        hop.send(RelayCell(RelayCommand.DROP, 0, b"")),
        hop.forward.cipher.crypt(payload),
    ]
    back = bench.gets(Command.RELAY, *cells)
    assert [hop.backward.cipher.crypt(cell.payload) for cell in back] == [payload, payload]


def test_there_is_no_exit_and_no_next_hop() -> None:
    bench = Bench()
    hop = bench.create()
    assert destroys(bench.gets(Command.RELAY, hop.send(RelayCell(RelayCommand.BEGIN_DIR, 1, b"")))) == [
        (CIRC, 1)
    ]


def test_parameters_go_to_the_core_with_the_certificate() -> None:
    bench = Bench()
    bench.create()
    wanted = params(b"t" * 16)
    bench.measurement(wanted)
    bench.gets(Command.MEASUREMENT, b"\x00\x01short")
    assert bench.events == [
        ParamsReceived(4, CIRC, CERTIFICATE, wanted),
        ParamsReceived(4, CIRC, CERTIFICATE, None),
    ]


@pytest.mark.parametrize("message", [MeasParamsOk(), MeasBg(1, 2, 3)])
def test_what_only_a_relay_sends_breaks_the_protocol(message) -> None:
    bench = Bench()
    bench.create()
    with pytest.raises(PeerError, match="the relay's to send"):
        bench.measurement(message)


def test_an_unknown_measure_command_breaks_the_protocol() -> None:
    bench = Bench()
    bench.create()
    with pytest.raises(PeerError, match="measure command 200"):
        bench.gets(Command.MEASUREMENT, b"\xc8")


def test_giving_up_goes_to_the_core() -> None:
    bench = Bench()
    bench.create()
    bench.measurement(MeasErr(MeasErrCode.OTHER))
    assert bench.events == [ErrReceived(4)]


def test_echo_behind_a_join_in_one_go() -> None:
    bench = Bench()
    hop = bench.create()
    bench.measurement(MeasJoin(7, b"t" * 16))
    payloads = [bytes([number]) * PAYLOAD_BYTES for number in range(5)]
    back = bench.gets(Command.MEAS_ECHO, *payloads)
    assert [cell.payload for cell in back] == [hop.forward.cipher.crypt(payload) for payload in payloads]
    bench.gets(Command.MEAS_ECHO, *payloads)
    assert bench.events == [JoinReceived(4, CIRC, "192.0.2.1", True, 7, b"t" * 16), EchoBegan(4)]


def test_no_echo_once_the_link_is_to_be_closed() -> None:
    bench = Bench()
    bench.create()
    bench.measurement(MeasJoin(7, b"t" * 16))
    bench.close_on_echo = True
    assert bench.gets(Command.MEAS_ECHO, b"x") == []


@pytest.mark.parametrize("accept", [True, False])
def test_echo_before_or_without_a_join_breaks_the_protocol(accept) -> None:
    bench = Bench(accept_joins=accept)
    bench.create()
    if not accept:
        bench.measurement(MeasJoin(7, b"t" * 16))
    with pytest.raises(PeerError, match="MEAS_ECHO before MEAS_JOIN"):
        bench.gets(Command.MEAS_ECHO, b"x")


def test_a_second_circuit_of_a_measurer_has_not_joined() -> None:
    bench = Bench()
    bench.create()
    bench.measurement(MeasJoin(7, b"t" * 16))
    bench.create(CIRC + 1)
    with pytest.raises(PeerError, match="MEAS_ECHO before MEAS_JOIN"):
        bench.gets(Command.MEAS_ECHO, b"x", circ=CIRC + 1)


def test_a_join_is_first_only_on_a_fresh_and_only_circuit() -> None:
    bench = Bench(loop=True)
    bench.create()
    bench.gets(Command.RELAY, b"x")
    bench.measurement(MeasJoin(7, b"t" * 16))
    assert bench.events[-1].first is False
    second = Bench()
    second.create()
    second.create(CIRC + 1)
    second.measurement(MeasJoin(7, b"t" * 16))
    assert second.events[-1].first is False


def test_relay_cells_on_a_measurement_circuit_break_the_protocol() -> None:
    bench = Bench(loop=True)
    bench.create()
    bench.measurement(MeasJoin(7, b"t" * 16))
    with pytest.raises(PeerError, match="RELAY cell on a measurement circuit"):
        bench.gets(Command.RELAY, b"x")


def test_no_answer_is_longer_than_what_it_answers() -> None:
    """So that room for as much as was read is enough, whatever the cells are."""
    bench = Bench(loop=True)
    hop = bench.create()
    for command in range(128):
        if command not in (Command.VERSIONS, Command.CREATE2, Command.MEASUREMENT, Command.MEAS_ECHO):
            answers = bench.gets(command, *[b"x" * PAYLOAD_BYTES] * 3)
            assert len(answers) <= 3
    own = [hop.send(RelayCell(RelayCommand.BEGIN, 1, b"")) for _ in range(3)]
    assert len(bench.gets(Command.RELAY, *own)) * CELL_BYTES <= 3 * CELL_BYTES
