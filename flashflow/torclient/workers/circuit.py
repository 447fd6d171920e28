"""Echo or loop cells on one circuit: whole buffers out and in, no Python object per cell."""

import math
import secrets
import time
from typing import Final

import numpy as np

from flashflow.model.errors import NetworkError
from flashflow.orlink.bulk import HEADER_BYTES, as_cells, cell_header, empty_cells, payloads
from flashflow.orlink.cells import CELL_BYTES, Command, command_name, is_variable
from flashflow.orlink.meas import MeasErr, parse_measurement
from flashflow.torclient.core.sampling import EchoCheck
from flashflow.torclient.core.stream import CHUNK_CELLS, SECRET_BYTES, EchoStream
from flashflow.torclient.workers.link import Link, LostLinkError, OpenCircuit
from flashflow.torclient.workers.tls import RECEIVE_BYTES
from flashflow.torctl.reasons import Reason, destroy_reason

_PLAIN: Final = np.empty(RECEIVE_BYTES + 2 * 65_536, np.uint8)
_PLAIN_VIEW: Final = _PLAIN.data.cast("B")
_OUT: Final = empty_cells(CHUNK_CELLS, bytes(HEADER_BYTES))
MOST_FILLS: Final = 8
"""A circuit gives way to the others after so many buffers."""
MOST_OTHERS: Final = 1000
"""Cells that are no echoes a relay may send on a connection, and one more for each hundred echoes. Each costs as much CPU
as hundreds of echoes, and whoever keeps the worker busy blurs when its seconds end."""
QUIET_S: Final = 0.5
"""A circuit that owes cells and is silent for so long is passed over. Its last cell is looked at: it may be TRUNCATED."""
_VARIABLE_HEAD_BYTES: Final = HEADER_BYTES + 2


class ClosedCircuitError(LostLinkError):
    """The relay, or the network, ended the circuit."""


class EchoCircuit:
    """One open circuit of a measurer; its traffic is MEAS_ECHO cells in echo mode, RELAY cells in loop mode."""

    def __init__(self, link: Link, circuit: OpenCircuit, *, command: int, bucket_cells: int) -> None:
        self.link: Final = link
        self._loops = command == Command.RELAY
        self._header = cell_header(circuit.circ_id, command)
        self._headers = self._header * (len(_PLAIN) // CELL_BYTES + 1)
        self._rest = circuit.rest
        self._others = 0
        self._heard: tuple[int, float] = (-1, 0.0)
        self._stream = EchoStream(secrets.token_bytes(SECRET_BYTES), self._header)
        self.round_trip_s = circuit.round_trip_s
        """How long the circuit's last handshake took."""
        self._answered_s: float | None = None
        self._probe: tuple[int, float] | None = None
        self.check: Final = EchoCheck(
            stream=self._stream,
            passage=circuit.passage,
            bucket_cells=bucket_cells,
            draw=secrets.randbelow,
            truncates=self._loops,
        )

    @property
    def sent_cells(self) -> int:
        """Echo cells sent so far."""
        return self._stream.sent_cells

    @property
    def received_cells(self) -> int:
        """Echo cells that came back so far."""
        return self.check.received_cells

    @property
    def outstanding_cells(self) -> int:
        """Cells sent that have not come back."""
        return self._stream.sent_cells - self.check.received_cells

    def take_round_trips(self, now_s: float) -> tuple[float | None, float | None]:
        """Round trip of the last probe that came back since the last call, and how long one is away by now."""
        answered_s, self._answered_s = self._answered_s, None
        return answered_s, None if self._probe is None else now_s - self._probe[1]

    def look_if_quiet(self, now_s: float) -> None:
        """Once for each silence: is the last cell an echo, or the circuit's end? EchoError, TruncatedError.

        Nothing else might tell: relays answer by DESTROY what still comes, but nothing does while all that may be is away.
        """
        if self._heard[0] != self.received_cells or not self.outstanding_cells:
            self._heard = (self.received_cells, now_s)
        elif now_s - self._heard[1] >= QUIET_S:
            self._heard = (self.received_cells, math.inf)
            self.check.finish()

    @property
    def is_quiet(self) -> bool:
        """Cells are away, and nothing has come for QUIET_S."""
        return self._heard[1] == math.inf

    def send(self, cells: int, now_s: float) -> None:
        """Sends so many new cells. ClosedCircuitError if the connection broke."""
        if self._probe is None:
            self._probe = (self.sent_cells + 1, now_s)
        try:
            while cells > 0:
                chunk = _OUT[: min(cells, CHUNK_CELLS)]
                self.link.stream.write(self._stream.fill(chunk))
                self.link.stream.flush()
                cells -= len(chunk)
        except NetworkError as exc:
            raise ClosedCircuitError(Reason.RELAY_CLOSED, exc.reason) from exc

    def receive(self, scratch: memoryview, until_s: float) -> None:
        """Takes what the socket has, but begins on nothing more after `until_s` (monotonic): that is of the next second.

        EchoError if the relay cheats, ClosedCircuitError if it is over.
        """
        stream = self.link.stream
        try:
            stream.flush()
            for _ in range(MOST_FILLS):
                more = stream.fill(scratch)
                self._read_all()
                if not more or time.monotonic() >= until_s:
                    break
        except NetworkError as exc:
            raise ClosedCircuitError(Reason.RELAY_CLOSED, exc.reason) from exc
        if self._probe is not None and self.received_cells >= self._probe[0]:
            self._answered_s = time.monotonic() - self._probe[1]
            self._probe = None
        if stream.closed:
            raise ClosedCircuitError(Reason.RELAY_CLOSED, "the relay closed the connection")

    def _read_all(self) -> None:
        have = len(self._rest)
        _PLAIN_VIEW[:have] = self._rest
        while count := self.link.stream.read_into(_PLAIN_VIEW[have:]):
            have = self._consume(have + count)
        self._rest = bytes(_PLAIN_VIEW[:have])

    def _consume(self, have: int) -> int:
        """Takes all whole cells of the first `have` bytes; moves the rest to the front and gives its length."""
        start = 0
        while True:
            cells = as_cells(_PLAIN[start:have])
            echoes = self._leading_echoes(cells[:, :HEADER_BYTES].tobytes())
            self.check.take(payloads(cells[:echoes]))
            start += echoes * CELL_BYTES
            if not self._odd_is_whole(start, have):
                break
            start += self._take_odd(start)
        rest = have - start
        _PLAIN_VIEW[:rest] = bytes(_PLAIN_VIEW[start:have])
        return rest

    def _leading_echoes(self, headers: bytes) -> int:
        if headers == self._headers[: len(headers)]:
            return len(headers) // HEADER_BYTES
        same = np.frombuffer(headers, np.uint8) == np.frombuffer(self._headers, np.uint8, len(headers))
        return int(same.argmin()) // HEADER_BYTES

    def _odd_size(self, start: int) -> int:
        if is_variable(int(_PLAIN[start + 4])):
            return _VARIABLE_HEAD_BYTES + int.from_bytes(_PLAIN_VIEW[start + 5 : start + 7], "big")
        return CELL_BYTES

    def _odd_is_whole(self, start: int, have: int) -> bool:
        return have - start >= _VARIABLE_HEAD_BYTES and have - start >= self._odd_size(start)

    def _take_odd(self, start: int) -> int:
        """A cell that is no echo: ignored, unless it ends the circuit. Gives its size."""
        self._others += 1
        if self._others > MOST_OTHERS + self.received_cells // 100:
            raise ClosedCircuitError(Reason.RELAY_PROTOCOL, f"{self._others} cells that are no echoes")
        size = self._odd_size(start)
        head = bytes(_PLAIN_VIEW[start : start + HEADER_BYTES])
        if head[:4] != self._header[:4]:
            return size
        if head[4] == Command.DESTROY:
            code = int(_PLAIN[start + HEADER_BYTES])
            reason = destroy_reason(code) if self._loops else Reason.RELAY_CLOSED
            raise ClosedCircuitError(reason, f"DESTROY {code}")
        if head[4] == Command.MEASUREMENT:
            cell = parse_measurement(bytes(_PLAIN_VIEW[start + HEADER_BYTES : start + size]))
            if isinstance(cell, MeasErr):
                raise ClosedCircuitError(Reason(f"REFUSED_{cell.code.name}"), "MEAS_ERR from the relay")
        if head[4] in (Command.CREATED2, Command.CREATE2):
            raise ClosedCircuitError(Reason.RELAY_PROTOCOL, f"{command_name(head[4])} on an open circuit")
        return size
