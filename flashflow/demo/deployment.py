"""A whole deployment on loopback: reference relays, a coordinator, two measurers, each a process of its own.

Beside what `team` has, the folder has `relayN/`, the relays' data directories, and `net/`, consensus and descriptors.
"""

import asyncio
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flashflow.demo.child import Child, ChildFailedError, stop_all
from flashflow.demo.plan import BACKGROUND_RATIO, MEASURERS, Plan
from flashflow.demo.team import WARMUP_S, Team, TeamSettings
from flashflow.directory.files import load_relays
from flashflow.model.ids import Address, Fingerprint, Mode, parse_address, parse_fingerprint
from flashflow.model.relay import RelayInfo
from flashflow.relay.identity import DESCRIPTOR_FILE
from flashflow.shell.parent import own_command
from flashflow.testnet.consensus import assemble
from flashflow.testnet.relays import COUNTS_FILE, RelaySpec, module_command

DIRECTORY = """[directory]
source = file
consensus = ../net/consensus
descriptors = ../net/descriptors
[relay_filter]
file = ../net/relay_filter
"""


@dataclass(frozen=True, slots=True)
class RunningRelay:
    """One reference relay."""

    nickname: str
    """Its nickname, and its folder's name."""
    fingerprint: Fingerprint
    """Its identity."""
    address: Address
    """Its OR port."""
    rate_mbps: float
    """Its configured limit, cell Mbit/s."""
    counts: Path
    """Its own count of the bytes on its sockets."""
    child: Child
    """The process."""


class Deployment(Team):
    """The processes of one demo; as a context manager it ends them all, whatever happens."""

    mode: Mode = "echo"
    """How its relays are measured."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        relay_command: Sequence[str] | None = None,
        commands: Mapping[str, Sequence[str]] | None = None,
        *,
        relay_host: str | None = None,
        relay_exec: Sequence[str] = (),
    ) -> None:
        """`relay_command` starts the relays instead of `flashflow relay`, `commands` those of these nicknames.

        Relays that are elsewhere than the team: at `relay_host`, their command lines begin with `relay_exec`.
        """
        super().__init__(folder)
        self.plan = plan
        self.relays: list[RunningRelay] = []
        self._relay_command = relay_command or own_command("relay")
        self._commands = commands or {}
        self._relay_host = relay_host or plan.host
        self._relay_exec = relay_exec
        self._numbers = itertools.count(1)

    def start(self) -> None:
        """Start everything and wait until a measurement could begin. Raises LocalError, NetworkError."""
        self.make_folders("net")
        self.start_relays(self.plan.first_mbps)
        self.write_network()
        self.start_team(self.settings())
        self.wait_for_team()

    def settings(self) -> TeamSettings:
        """What the team's configuration says."""
        return TeamSettings(
            host=self.plan.host,
            networks=f"{self._relay_host}/{128 if ':' in self._relay_host else 32}",
            duration_s=self.plan.duration_s,
            measurer_mbps=self.plan.measurer_mbps,
            directory=DIRECTORY,
        )

    @contextmanager
    def background(self, relay: RunningRelay, mbps: float, seconds: int) -> Iterator[None]:
        """Background traffic of `mbps` through `relay`, as far as the relay lets it through."""
        info = self._known(relay)
        assert info.ed25519 is not None
        assert info.ntor_key is not None
        options = {
            "--relay": str(relay.address),
            "--ed25519": info.ed25519.hex(),
            "--ntor": info.ntor_key.hex(),
            "--fingerprint": relay.fingerprint,
            "--mbps": f"{mbps:g}",
            "--seconds": str(seconds),
        }
        argv = module_command("flashflow.testnet.background", *_words(options))
        child = self.start_child(f"background-{relay.nickname}", argv)
        try:
            yield
        finally:
            stop_all([child], 1.0)
            self.children.remove(child)

    def start_relays(self, rates_mbps: Sequence[float]) -> None:
        """Start a relay for each limit, and wait for them. Raises LocalError."""
        started = [self._start_relay(f"relay{next(self._numbers)}", rate) for rate in rates_mbps]
        for child, rate in zip(started, rates_mbps, strict=True):
            words = child.wait_ready()
            if len(words) != 2:
                raise ChildFailedError(
                    f"{child.name}: ready line {words!r} (expected address and fingerprint)", child
                )
            counts = self.folder / child.name / COUNTS_FILE
            address, fingerprint = parse_address(words[0]), parse_fingerprint(words[1])
            self.relays.append(RunningRelay(child.name, fingerprint, address, rate, counts, child))

    def relay_options(self) -> dict[str, str]:
        """Options that all relays are started with."""
        return {
            "--coordinator": str(self.folder / MEASURERS[0] / "keys" / "coord.pem"),
            "--background-ratio": f"{BACKGROUND_RATIO:g}",
            "--max-duration-s": str(WARMUP_S + self.plan.duration_s),
        }

    def weights_kb(self) -> dict[Fingerprint, int]:
        """The consensus' weights, in 1000 bytes/s; relays without one are marked unmeasured."""
        return {}

    def write_network(self) -> None:
        """Consensus, descriptors and relay filter for the relays as they are. Raises LocalError."""
        descriptors = [(self.folder / relay.nickname / DESCRIPTOR_FILE).read_text() for relay in self.relays]
        rules = "".join(f"allow {relay.fingerprint} mode={self.mode}\n" for relay in self.relays)
        consensus = assemble(descriptors, self.weights_kb(), datetime.now(UTC))
        # the coordinator may be reading: whole files, and the consensus, which makes the others count, last
        for name, text in (
            ("relay_filter", rules),
            ("descriptors", "".join(descriptors)),
            ("consensus", consensus),
        ):
            new = self.folder / "net" / f"{name}.new"
            new.write_text(text)
            new.replace(self.folder / "net" / name)

    def _start_relay(self, name: str, rate_mbps: float) -> Child:
        options = {"--rate-mbps": f"{rate_mbps:g}", **self.relay_options()}
        flags = ["--loop"] if self.plan.background_percent else []
        spec = RelaySpec(
            self.folder / name,
            name,
            (Address(self._relay_host, 0),),
            (*_words(options), *flags),
            (*self._relay_exec, *self._commands.get(name, self._relay_command)),
        )
        return self.start_child(name, spec.argv())

    def _known(self, relay: RunningRelay) -> RelayInfo:
        net = self.folder / "net"
        known = asyncio.run(load_relays(net / "consensus", net / "descriptors"))
        return next(info for info in known if info.fingerprint == relay.fingerprint)


def _words(options: Mapping[str, str]) -> list[str]:
    return [word for pair in options.items() for word in pair]
