"""The cells of an open link: circuits are made and destroyed, cells go where they belong.

Cells of no interest are ignored, as tor does; what breaks the protocol raises CellError, and the link is closed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from flashflow.orlink.bulk import Cells, payloads
from flashflow.orlink.cells import CellError, Command, MeasCommands
from flashflow.orlink.meas import MeasCommand, MeasErr, MeasJoin, MeasParams, Measurement, parse_measurement
from flashflow.orlink.relaycell import RelayCommand, parse_relay_cell
from flashflow.orlink.relaycrypto import RelayHop
from flashflow.relay.buffers import Buffer
from flashflow.relay.core.effects import Role
from flashflow.relay.core.events import (
    CircuitGone,
    EchoBegan,
    ErrReceived,
    Event,
    JoinReceived,
    ParamsReceived,
)
from flashflow.relay.echo import Echo, Rows, own_rows
from flashflow.relay.table import DESTROY_PROTOCOL, CircuitTable

_HARMLESS: Final = frozenset({RelayCommand.DROP, RelayCommand.SENDME, RelayCommand.PADDING_NEGOTIATE})
"""Relay commands to this hop that need no answer."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all links of a relay share."""

    node_id: bytes
    """The relay's RSA fingerprint, 20 bytes."""
    ntor_private: bytes
    """The relay's ntor onion key, 32 bytes."""
    commands: MeasCommands
    """Cell commands used for measuring."""
    loop: bool
    """Whether RELAY cells for nobody are returned through this hop's layers."""
    echo: Echo
    """Answers runs of cells."""
    random: Callable[[int], bytes]
    """Entropy, so many bytes."""
    post: Callable[[Event], None]
    """Hands an event to the core; its effects are carried out before this returns."""


class Party(Protocol):
    """The link, as far as its cells need it."""

    number: int
    """The link's number."""
    host: str
    """IP address of the other side."""
    certificate: bytes | None
    """SHA-256 of the TLS client certificate."""
    role: Role
    """What the link is to the relay."""

    @property
    def closing(self) -> bool:
        """No more cells are to be handled."""
        ...


@dataclass(slots=True)
class Circuit:
    """One circuit that ends here."""

    hop: RelayHop
    """Keys of this hop."""
    used: bool = False
    """A cell has come on it."""
    joined: bool = False
    """MEAS_JOIN was accepted on it."""
    echoed: bool = False
    """A MEAS_ECHO cell has come on it."""


class Circuits:
    """All circuits of one link."""

    def __init__(self, services: Services, party: Party, out: Buffer) -> None:
        self._services = services
        self._party = party
        self._out = out
        self._table = CircuitTable(
            services,
            out,
            lambda keys: Circuit(RelayHop(keys)),
            lambda circ_id: services.post(CircuitGone(party.number, circ_id)),
        )
        self._runs: Mapping[int, Callable[[int, Cells], None]] = {
            Command.CREATE: self._refuse,
            Command.CREATE_FAST: self._refuse,
            Command.CREATE2: self._on_create,
            Command.DESTROY: self._on_destroy,
            Command.RELAY: self._on_relay,
            Command.RELAY_EARLY: self._on_relay,
            services.commands.measurement: self._on_measurement,
            services.commands.echo: self._on_echo,
        }

    @property
    def ids(self) -> tuple[int, ...]:
        """Circuit IDs on this link."""
        return self._table.ids

    def take(self, circ_id: int, command: int, cells: Cells) -> None:
        """Handles a run of cells with one header. CellError or NtorError if the link has to be closed for it."""
        handler = self._runs.get(command)
        if handler is not None:
            handler(circ_id, cells)

    def send(self, circ_id: int, command: int, payload: bytes) -> None:
        """Sends one cell."""
        self._table.send(circ_id, command, payload)

    def send_measurement(self, circ_id: int, message: Measurement) -> None:
        """Sends one MEASUREMENT cell."""
        self.send(circ_id, self._services.commands.measurement, message.encode())

    def _on_create(self, circ_id: int, cells: Cells) -> None:
        for payload in _each(cells):
            self._table.create(circ_id, payload)

    def _refuse(self, circ_id: int, cells: Cells) -> None:
        for _ in cells:
            self._table.destroy(circ_id, DESTROY_PROTOCOL)

    def _on_destroy(self, circ_id: int, _cells: Cells) -> None:
        self._table.forget(circ_id)

    def _on_relay(self, circ_id: int, cells: Cells) -> None:
        circuit = self._table.get(circ_id)
        if circuit is None:
            return
        if self._party.role is Role.MEASURER:
            raise CellError("RELAY cell on a measurement circuit")
        circuit.used = True
        rows = self._services.echo.peel(circuit.hop, cells)
        own = own_rows(circuit.hop, rows)
        own_payloads = [rows[index].tobytes() for index in own]
        others = _without(rows, own) if own else rows
        if len(others) and not self._services.loop:
            self._table.destroy(circ_id, DESTROY_PROTOCOL)  # as tor does at a circuit's last hop
            return
        self._services.echo.pass_back(circuit.hop, others, circ_id, self._out)
        for payload in own_payloads:
            self._on_own(circ_id, payload)

    def _on_own(self, circ_id: int, payload: bytes) -> None:
        if parse_relay_cell(payload).command not in _HARMLESS:  # no exit, no directory, no next hop
            self._table.destroy(circ_id, DESTROY_PROTOCOL)

    def _on_echo(self, circ_id: int, cells: Cells) -> None:
        circuit = self._table.get(circ_id)
        if circuit is None or not circuit.joined:
            raise CellError("MEAS_ECHO before MEAS_JOIN")
        if not circuit.echoed:
            circuit.echoed = True
            self._services.post(EchoBegan(self._party.number))
            if self._party.closing:
                return
        self._services.echo.echo(circuit.hop, cells, self._out)

    def _on_measurement(self, circ_id: int, cells: Cells) -> None:
        for payload in _each(cells):
            circuit = self._table.get(circ_id)
            if circuit is None or self._party.closing:
                return
            self._on_one_measurement(circ_id, circuit, payload)
            circuit.used = True

    def _on_one_measurement(self, circ_id: int, circuit: Circuit, payload: bytes) -> None:
        number, post = self._party.number, self._services.post
        if payload[0] == MeasCommand.PARAMS:
            post(ParamsReceived(number, circ_id, self._party.certificate, _parse_params(payload)))
            return
        message = parse_measurement(payload)
        if isinstance(message, MeasJoin):
            first = not circuit.used and len(self._table) == 1
            post(JoinReceived(number, circ_id, self._party.host, first, message.meas_id, message.token))
            circuit.joined = self._party.role is Role.MEASURER
        elif isinstance(message, MeasErr):
            post(ErrReceived(number))
        else:
            raise CellError(f"MEASUREMENT cell: {type(message).__name__} is the relay's to send")


def _parse_params(payload: bytes) -> MeasParams | None:
    try:
        params = parse_measurement(payload)
    except CellError:
        return None
    return params if isinstance(params, MeasParams) else None


def _each(cells: Cells) -> list[bytes]:
    return [row.tobytes() for row in payloads(cells)]


def _without(rows: Rows, indices: list[int]) -> Rows:
    keep = [index for index in range(len(rows)) if index not in indices]
    return rows[keep]
