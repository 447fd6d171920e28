"""A reference relay that cheats: `python cheating_relay.py --cheat NAME[=X][+NAME[=X]...] [options of flashflow relay]`.

The cheats sit on the seams of `RelayServer`: the relay itself knows none of them.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from flashflow.cli import relay as relay_command
from flashflow.model.clock import Now
from flashflow.model.errors import FlashFlowError
from flashflow.orlink import bulk
from flashflow.orlink.cells import CELL_BYTES, PAYLOAD_BYTES, Command
from flashflow.orlink.keys import RelayKeys
from flashflow.orlink.meas import MeasBg
from flashflow.relay.core.effects import Effect, Role
from flashflow.relay.core.events import Event, ParamsReceived
from flashflow.relay.core.state import State
from flashflow.relay.counting import Counter
from flashflow.relay.echo import Echo, own_rows, send_rows
from flashflow.relay.measuring import BackgroundMeter
from flashflow.relay.server import RelayServer
from flashflow.shell.parent import follow_parent
from support.cheats_in_time import AbortLow, Burst, Drip, Stall, Store

INVENTED_CELLS = 20
CACHED_CELLS = 50
AGE_S = 60 * 86_400
FIRST_LINKS = 3


class SkipDecrypt(RelayServer):
    """Saves the decryption: sends back what came."""

    def make_echo(self):
        class Lazy(Echo):
            def echo(self, hop, cells, out):
                out.add(cells.tobytes())

        return Lazy()


class Replay(RelayServer):
    """Decrypts the first cells of a circuit only, and answers the others with the answers to those."""

    def make_echo(self):
        class Cached(Echo):
            def __init__(self):
                super().__init__()
                self.cache = {}

            def echo(self, hop, cells, out):
                rows = self.cache.setdefault(id(hop), np.empty((0, PAYLOAD_BYTES), np.uint8))
                fresh = min(CACHED_CELLS - len(rows), len(cells))
                if fresh:
                    super().echo(hop, cells[:fresh], out)
                    answered = bulk.as_cells(out.filled()[-fresh * 514 :])
                    rows = self.cache[id(hop)] = np.concatenate((rows, bulk.payloads(answered)))
                repeated = rows[np.arange(len(cells) - fresh) % len(rows)]
                if len(repeated):
                    send_rows(repeated, cells[0, : bulk.HEADER_BYTES].tobytes(), out)

        return Cached()


class EchoEarly(RelayServer):
    """Sends cells before it has received any."""

    def role_changed(self, link):
        super().role_changed(link)
        if link.role is Role.MEASURER:
            invent(self, link, INVENTED_CELLS)
            self.wake(link)


class Invent(RelayServer):
    """Sends cells that nobody sent to it: in the last second behind each run of real ones, and once more at the end."""

    inventing = False

    def make_core(self):
        server = self

        class Planner(State):
            def handle(self, event: Event, now: Now) -> list[Effect]:
                effects = super().handle(event, now)
                meas = self._meas
                server.inventing = meas is not None and meas.reported >= meas.params.duration_s - 1
                return effects

        return Planner(self.settings.rules)

    def make_echo(self):
        server = self

        class Generous(Echo):
            def echo(self, hop, cells, out):
                super().echo(hop, cells, out)
                if server.inventing and out.free_bytes > INVENTED_CELLS * CELL_BYTES:
                    send_rows(noise(INVENTED_CELLS), cells[0, : bulk.HEADER_BYTES].tobytes(), out)

        return Generous()

    def role_changed(self, link):
        super().role_changed(link)
        if link.role is Role.MEASURER:
            link.linger, link.really_linger = self._inventing_at_the_end(link), link.linger

    def _inventing_at_the_end(self, link):
        def linger(now_s):
            link.linger = link.really_linger
            invent(self, link, INVENTED_CELLS)
            link.flush(now_s)
            self.wake(link)

        return linger


class Drop(RelayServer):
    """Sends only every other cell back."""

    def make_echo(self):
        class Half(Echo):
            def echo(self, hop, cells, out):
                rows = self.peel(hop, cells)[::2]
                send_rows(np.ascontiguousarray(rows), cells[0, : bulk.HEADER_BYTES].tobytes(), out)

        return Half()


class Recognised(RelayServer):
    """Decrypts, and sends only those cells back that it recognises: of random payloads, none."""

    def make_echo(self):
        class Picky(Echo):
            def echo(self, hop, cells, out):
                rows = self.peel(hop, cells)
                own = np.ascontiguousarray(rows[own_rows(hop, rows)])
                send_rows(own, cells[0, : bulk.HEADER_BYTES].tobytes(), out)

        return Picky()


class Miscount(RelayServer):
    """Its counts file says `miscounted` times what was counted."""

    miscounted = 1.2

    def make_counter(self):
        factor = self.miscounted

        class Wrong(Counter):
            def line(self, now: Now) -> str:
                wrong = Counter()
                wrong.read_bytes = int(self.read_bytes * factor)
                wrong.written_bytes = int(self.written_bytes * factor)
                return wrong.line(now)

        return Wrong()


class Background(RelayServer):
    """Claims `claimed` times its background traffic, and at least 1 MB a second."""

    claimed = 10.0

    def make_meter(self):
        factor = self.claimed

        class Boasting(BackgroundMeter):
            def take(self, second: int) -> MeasBg:
                report = super().take(second)
                sent, recv = max(report.sent_bytes, 100_000), max(report.recv_bytes, 100_000)
                return MeasBg(second, int(sent * factor), int(recv * factor))

        return Boasting()


class BadCerts(RelayServer):
    """Shows certificates of another identity than its descriptor names."""

    def __init__(self, settings, keys):
        super().__init__(settings, keys)
        self.others = RelayKeys.generate()

    def make_handshake(self, link):
        own, self.keys = self.keys, self.others
        try:
            return super().make_handshake(link)
        finally:
            self.keys = own


class Expired(RelayServer):
    """Its certificates ended a month ago."""

    def make_handshake(self, link):
        handshake = super().make_handshake(link)
        handshake._now_utc_s -= AGE_S
        return handshake


class Changing(BadCerts):
    """Becomes another relay once the coordinator and each measurer have one link to it."""

    handshakes = 0

    def make_handshake(self, link):
        self.handshakes += 1
        honest = self.handshakes <= FIRST_LINKS
        return (super(BadCerts, self) if honest else super()).make_handshake(link)


class Oversize(RelayServer):
    """Sends cells of 65,535 bytes to those who measure it."""

    def role_changed(self, link):
        super().role_changed(link)
        if link.role is Role.MEASURER:
            link.tx.add(bytes(4) + bytes([Command.VPADDING]) + b"\xff\xff" + bytes(0xFFFF))
            self.wake(link)


class Malformed(RelayServer):
    """Tells the coordinator things that are no message."""

    told = b"\xff" * PAYLOAD_BYTES

    def role_changed(self, link):
        super().role_changed(link)
        if link.role is Role.MEASURER:
            row = np.frombuffer(self.told, np.uint8)[np.newaxis]
            for coordinator in [other for other in self._links.values() if other.role is Role.COORDINATOR]:
                for circ_id in coordinator.circuits.ids:
                    header = bulk.cell_header(circ_id, self.settings.commands.measurement)
                    send_rows(row, header, coordinator.tx)
                self.wake(coordinator)


class Hasty(Malformed):
    """Reports the background of second 1 before traffic has begun."""

    told = MeasBg(1, 0, 0).encode().ljust(PAYLOAD_BYTES, b"\0")


class Refuse(RelayServer):
    """Refuses every measurement (TOO_MANY)."""

    def make_core(self):
        return State(replace(self.settings.rules, max_per_period=0))


class Silent(RelayServer):
    """Does not answer MEAS_PARAMS, as a relay without FlashFlow."""

    def make_core(self):
        class Deaf(State):
            def handle(self, event: Event, now: Now) -> list[Effect]:
                return [] if isinstance(event, ParamsReceived) else super().handle(event, now)

        return Deaf(self.settings.rules)


CHEATS: dict[str, tuple[type[RelayServer], str | None]] = {
    "skip-decrypt": (SkipDecrypt, None),
    "replay": (Replay, None),
    "echo-early": (EchoEarly, None),
    "invent": (Invent, None),
    "drop": (Drop, None),
    "recognised": (Recognised, None),
    "miscount": (Miscount, "miscounted"),
    "background": (Background, "claimed"),
    "bad-certs": (BadCerts, None),
    "expired": (Expired, None),
    "changing": (Changing, None),
    "oversize": (Oversize, None),
    "malformed": (Malformed, None),
    "hasty": (Hasty, None),
    "refuse": (Refuse, None),
    "silent": (Silent, None),
    "burst": (Burst, "late_s"),
    "store": (Store, "late_s"),
    "stall": (Stall, None),
    "drip": (Drip, None),
    "abort-low": (AbortLow, "least_mbps"),
}
"""What each is called, and what X sets."""


def noise(count: int) -> np.ndarray:
    """Payloads of random bytes."""
    return np.frombuffer(os.urandom(count * PAYLOAD_BYTES), np.uint8).reshape(count, PAYLOAD_BYTES)


def invent(server: RelayServer, link, count: int) -> None:
    """Queues cells of random bytes on the link's circuit."""
    for circ_id in link.circuits.ids:
        send_rows(noise(count), bulk.cell_header(circ_id, server.settings.commands.echo), link.tx)


def choose(text: str) -> type[RelayServer]:
    """The cheat NAME or NAME=X, or several of them at once."""
    kinds, values = [], {}
    for part in text.split("+"):
        name, _, value = part.partition("=")
        kind, attribute = CHEATS[name]
        kinds.append(kind)
        if value:
            values[str(attribute)] = float(value)
    return type("And".join(kind.__name__ for kind in kinds), tuple(kinds), values)


def command(cheat: str) -> list[str]:
    """The command line that starts this relay."""
    return [sys.executable, str(Path(__file__).resolve()), "--cheat", cheat]


def main(args: list[str], app: Callable[..., object] = relay_command.app) -> int:
    follow_parent()
    at = args.index("--cheat")
    server = choose(args[at + 1])
    try:
        app(args=args[:at] + args[at + 2 :], prog_name="cheating relay", obj=server)
    except FlashFlowError as error:
        print(f"cheating relay: {error.reason}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
