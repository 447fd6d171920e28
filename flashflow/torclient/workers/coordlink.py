"""The coordinator's own circuit: MEAS_PARAMS out, the relay's answer and its background reports in."""

import ssl
from typing import Final

from flashflow.model.errors import FlashFlowError, PeerError
from flashflow.orlink.cells import Cell, CellReader, Command
from flashflow.orlink.meas import MeasBg, MeasErr, MeasParamsOk, parse_measurement
from flashflow.torclient.core.messages import (
    BackgroundCounted,
    CircuitBuilt,
    CircuitEnded,
    OpenCoord,
    ParamsAnswered,
    ParamsWereSent,
)
from flashflow.torclient.core.pacing import MAX_NAP_S
from flashflow.torclient.workers.link import Link, LostLinkError, OpenCircuit, RelayTarget
from flashflow.torclient.workers.share import Say
from flashflow.torctl.reasons import Reason

MOST_CELLS: Final = 1500
"""Cells that may come in a measurement: one a second, padding, and those of a relay that is not quite well."""


class CoordLink:
    """One measurement of the coordinator. Once `over`, the loop forgets it."""

    def __init__(self, order: OpenCoord, context: ssl.SSLContext, scratch: memoryview, say: Say) -> None:
        self.run = order.run
        self.over = False
        self._order = order
        self._scratch = scratch
        self._say = say
        self._reader = CellReader()
        self._cells = 0
        target = RelayTarget(
            order.host,
            order.port,
            bytes.fromhex(order.fingerprint),
            bytes.fromhex(order.ed25519),
            bytes.fromhex(order.ntor),
        )
        self.link = Link(target, context, scratch)

    def ready(self, circ_id: int, now_s: float) -> None:
        """The socket is ready."""
        if self.over:
            return
        try:
            if self.link.circuit is None:
                circuit = self.link.advance()
                if circuit is not None:
                    self._opened(circuit)
            else:
                self._receive()
        except LostLinkError as exc:
            self._ended(exc.code, exc.reason)
        except PeerError as exc:
            self._ended(Reason.RELAY_PROTOCOL, exc.reason)
        except FlashFlowError as exc:
            self._ended(Reason.RELAY_CLOSED, exc.reason)

    def pump(self, now_s: float) -> float | None:
        """Nothing goes out by itself."""
        return None

    def nap_s(self) -> float:
        """Whatever arrives can wait for the bulk traffic."""
        return MAX_NAP_S

    def close(self) -> None:
        """Closes the connection at once."""
        self.over = True
        self.link.close()

    def _opened(self, circuit: OpenCircuit) -> None:
        self._say(CircuitBuilt(self.run, self._order.circ_id))
        self._reader.feed(circuit.rest)
        self.link.send_cell(Command.MEASUREMENT, bytes.fromhex(self._order.params))
        self._say(ParamsWereSent(self.run))
        self._take_cells()

    def _receive(self) -> None:
        stream = self.link.stream
        stream.flush()
        stream.fill(self._scratch)
        while count := stream.read_into(self._scratch):
            self._reader.feed(self._scratch[:count])
            self._take_cells()
        if stream.closed:
            self._ended(Reason.RELAY_CLOSED, "the relay closed the connection")

    def _take_cells(self) -> None:
        while not self.over and (cell := self._reader.next()) is not None:
            self._take(cell)

    def _take(self, cell: Cell) -> None:
        self._cells += 1
        if self._cells > MOST_CELLS:
            raise PeerError(f"{self._cells} cells on the coordinator's connection")
        circuit = self.link.circuit
        if circuit is None or cell.circ_id != circuit.circ_id:
            return
        if cell.command == Command.DESTROY:
            self._ended(Reason.RELAY_CLOSED, f"DESTROY {cell.payload[0]}")
        elif cell.command == Command.MEASUREMENT:
            self._take_measurement(cell.payload)

    def _take_measurement(self, payload: bytes) -> None:
        message = parse_measurement(payload)
        if isinstance(message, MeasParamsOk):
            self._say(ParamsAnswered(self.run, None))
        elif isinstance(message, MeasErr):
            self._say(ParamsAnswered(self.run, Reason(f"REFUSED_{message.code.name}")))
        elif isinstance(message, MeasBg):
            self._say(BackgroundCounted(self.run, message.second, message.sent_bytes, message.recv_bytes))
        else:
            raise PeerError(f"MEASUREMENT cell {message.command.name} from a relay")

    def _ended(self, code: Reason, detail: str) -> None:
        if not self.over:
            self.close()
            self._say(CircuitEnded(self.run, self._order.circ_id, code, detail))
