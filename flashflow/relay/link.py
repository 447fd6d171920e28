"""A link to the reference relay: a connection and its circuits, which anybody may have."""

from collections.abc import Callable
from typing import Final

from flashflow.model.errors import NetworkError
from flashflow.orlink.bulk import HEADER_BYTES, Cells, headers_match
from flashflow.orlink.cells import CELL_BYTES
from flashflow.orlink.link import OpenLink, ResponderHandshake
from flashflow.orlink.meas import Measurement
from flashflow.relay.celllink import CellLink
from flashflow.relay.circuits import Circuits, Services
from flashflow.relay.counting import Counter
from flashflow.relay.tls import TlsStream


class Link(CellLink):
    """One connection of somebody to this relay."""

    def __init__(
        self,
        number: int,
        host: str,
        stream: TlsStream,
        counter: Counter,
        services: Services,
        make_handshake: Callable[[CellLink], ResponderHandshake],
        now_s: float,
    ) -> None:
        super().__init__(number, host, stream, counter, make_handshake, now_s)
        self.circuits: Final = Circuits(services, self, self.tx)

    def opened(self, link: OpenLink) -> None:
        """Everybody is welcome."""

    def take_cells(self, cells: Cells) -> int:
        """Handles the cells that have the first one's header."""
        header = cells[0, :HEADER_BYTES].tobytes()
        run = cells[: headers_match(cells, header)]
        self.circuits.take(int.from_bytes(header[:4], "big"), header[4], run)
        return len(run)

    def send_measurement(self, circ_id: int, message: Measurement) -> None:
        """Queues a MEASUREMENT cell. NetworkError if the other side has not been reading for long."""
        if self.tx.free_bytes < CELL_BYTES:
            raise NetworkError("it does not read what it is sent")
        self.circuits.send_measurement(circ_id, message)
