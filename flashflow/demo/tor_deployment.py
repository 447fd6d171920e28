"""A whole deployment with stock tor: a private network, a coordinator that knows it from a tor of its own, two measurers.

Beside what `team` has, the folder has `net/`, the network's tors, and `bw/`, what each relay counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from flashflow.ctrl.client import CtrlClient
from flashflow.demo.child import Child, Running
from flashflow.demo.team import END_S, Team, TeamSettings
from flashflow.demo.tor_plan import TorPlan
from flashflow.model.ids import Fingerprint
from flashflow.testnet.tornet import TorNetwork, TorRelaySpec
from flashflow.testnet.tornet_bw import recorder_command
from flashflow.testnet.tornet_node import TorNode, find_program

KNOWN_S = 60.0
"""Longest time until the coordinator knows every relay."""


@dataclass(frozen=True, slots=True)
class TorRelay:
    """One relay of the network."""

    node: TorNode
    """Its tor."""
    fingerprint: Fingerprint
    """Its identity."""
    rate_mbps: float | None
    """Its RelayBandwidthRate, Mbit/s; None for no limit."""
    bw: Path
    """The record of its BW events."""

    @property
    def nickname(self) -> str:
        """Its nickname."""
        return self.node.name


class TorDeployment(Team):
    """The processes of one demo with stock tor."""

    def __init__(
        self,
        plan: TorPlan,
        folder: Path,
        *,
        relay_host: str | None = None,
        relay_exec: Sequence[str] = (),
    ) -> None:
        """Raises MissingTorError, LocalError.

        A network that is elsewhere than the team: at `relay_host`, its command lines begin with `relay_exec`.
        """
        super().__init__(folder)
        self.plan = plan
        self._relay_host = relay_host
        self._relay_exec = relay_exec
        self.relays: list[TorRelay] = []
        self.v3bw = folder / "coord" / "results" / "v3bw"
        """Where the coordinator publishes; a link to the newest of the files `v3bw.*` beside it."""
        self.network = TorNetwork(
            folder / "net",
            self.relay_specs(),
            host=relay_host or plan.network_host,
            prefix=relay_exec,
            consensus_params=plan.consensus_params,
            bandwidths_file=self.v3bw,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self.network.stop(END_S if kind is None else 0.0)

    def relay_specs(self) -> list[TorRelaySpec]:
        """The relays, as many as the plan has rates."""
        return [
            TorRelaySpec(f"relay{n}", rate, torrc_lines=self.plan.relay_lines)
            for n, rate in enumerate(self.plan.rates_mbps, start=1)
        ]

    def start(self) -> None:
        """Start everything and wait until a measurement could begin. Raises LocalError, NetworkError."""
        self.make_folders("bw")
        self.network.launch()
        for node, rate in zip(self.network.relays, self.plan.rates_mbps, strict=True):
            bw = self.folder / "bw" / node.name
            self.relays.append(TorRelay(node, node.fingerprint(), rate, bw))
        self._write_filter()
        self.network.wait_ready()
        recorder = self._start_recorder()
        self.start_team(
            TeamSettings(
                host=self.plan.host,
                networks=f"{self._relay_host}/32" if self._relay_host else "127.0.0.0/8, ::1/128",
                duration_s=self.plan.duration_s,
                measurer_mbps=self.plan.measurer_mbps,
                directory=self._directory(),
            )
        )
        self.wait_for_team(self._relays_are_known, KNOWN_S)
        recorder.wait_ready()

    def dead(self) -> Sequence[Running]:
        """The processes that ended though nobody asked them to, tors among them."""
        return [*super().dead(), *(node for node in self.network.nodes if not node.alive)]

    def _relays_are_known(self, client: CtrlClient) -> bool:
        """Whether the coordinator has all their descriptors, which come after the consensus."""
        known = {row["fingerprint"]: row["measurable"] for row in client.request("relays")["relays"]}
        return all(known.get(relay.fingerprint) for relay in self.relays)

    def _write_filter(self) -> None:
        rules = "".join(f"allow {relay.fingerprint} mode=loop\n" for relay in self.relays)
        (self.folder / "net" / "relay_filter").write_text(rules)

    def _directory(self) -> str:
        # tor's defences count connections by address: the directory's tor shall not use up what the measurers may have
        own_address = [] if self._relay_host else [f"OutboundBindAddress {self.network.ipv4}"]
        lines = "".join(f"    {line}\n" for line in (*self.network.directory_lines, *own_address))
        return f"""[directory]
source = tor
tor_bin = {find_program("tor")}
torrc_extra_lines =
{lines}[relay_filter]
file = ../net/relay_filter
[v3bw]
publish_loop_results = yes
"""

    def _start_recorder(self) -> Child:
        records = {relay.bw: relay.node.control() for relay in self.relays}
        return self.start_child("recorder", [*self._relay_exec, *recorder_command(records)])
