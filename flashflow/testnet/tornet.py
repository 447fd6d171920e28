"""A private network of stock tor on loopback: directory authorities, and relays with limits of their own.

Every tor is a process with its own folder; none outlives the process that made the network. As a context manager the
network ends them all.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

from flashflow.model.ids import Address, Fingerprint
from flashflow.model.units import from_mbps
from flashflow.testnet.ports import PORTS, free_ports
from flashflow.testnet.tornet_documents import CONSENSUS_PATH, ConsensusEntry, consensus_entries, fetch
from flashflow.testnet.tornet_keys import make_authority
from flashflow.testnet.tornet_node import STOP_S, TorNode, find_program, stop_nodes, wait_for

LIVE_PARAMS = (
    "DoSConnectionEnabled=1 DoSConnectionMaxConcurrentCount=50 DoSConnectionConnectRate=20"
    " DoSConnectionConnectBurst=40 DoSCircuitCreationEnabled=1 DoSCircuitCreationMinConnections=3"
    " DoSCircuitCreationRate=2 DoSCircuitCreationBurst=60"
    " circ_max_cell_queue_size=1250 circ_max_cell_queue_size_out=1000"
)
"""Defences of the live network, as its consensus of 2024 sets them.

A relay counts only addresses where no relay is known: clients must come from another one than the network's `host`.
"""
VOTING_INTERVAL_S = 10
"""From one consensus to the next."""
INITIAL_INTERVAL_S = 5
"""The same until there is one."""
VOTE_AT_S = 3
"""How far into that interval the authorities vote."""
EVERY_TOR_LINES = ("TestingTorNetwork 1", "FetchDirInfoEarly 1", "FetchDirInfoExtraEarly 1")
"""torrc lines of every tor in a private network, a client too: a new consensus is fetched as soon as it is there."""
CONSENSUS_POLL_S = 0.25
READY_S = 60.0
"""Longest time from launch to a consensus with every relay; 5 to 10 s are usual."""


@dataclass(frozen=True, slots=True)
class TorRelaySpec:
    """One relay of the network."""

    nickname: str
    """Its nickname, and its folder's name."""
    rate_mbps: float | None = None
    """RelayBandwidthRate, Mbit/s of what tor counts (TLS bytes); None for no limit."""
    burst_mbps: float | None = None
    """RelayBandwidthBurst, Mbit; None for one second of `rate_mbps`."""
    max_advertised_mbps: float | None = None
    """MaxAdvertisedBandwidth, Mbit/s; None for no limit."""
    torrc_lines: tuple[str, ...] = ()
    """Further lines of its torrc."""

    def limits(self) -> list[str]:
        """The torrc lines of its limits."""
        lines = []
        if self.rate_mbps is not None:
            lines += [
                f"RelayBandwidthRate {from_mbps(self.rate_mbps)} bytes",
                f"RelayBandwidthBurst {from_mbps(self.burst_mbps or self.rate_mbps)} bytes",
            ]
        if self.max_advertised_mbps is not None:
            lines.append(f"MaxAdvertisedBandwidth {from_mbps(self.max_advertised_mbps)} bytes")
        return lines


class TorNetwork:
    """Authorities `auth1` … and relays. `start` returns when every authority's consensus lists every relay."""

    def __init__(
        self,
        folder: Path,
        relays: Sequence[TorRelaySpec],
        *,
        host: str = "127.0.0.1",
        authorities: int = 3,
        consensus_params: str = "",
        bandwidths_file: Path | None = None,
        authority_lines: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> None:
        """`host`: a loopback address; with ::1 each relay listens there beside 127.0.0.1, which tor cannot do without.

        `bandwidths_file` is the v3bw file that every authority reads before it votes; it need not exist yet. With a
        `prefix`, which every tor's command line begins with, they are in a namespace of their own: there `host` may be
        any address, every port is free, and control ports cannot be reached from outside. Raises LocalError,
        MissingTorError.
        """
        find_program("tor-gencert")
        self.host = host
        """Where every relay listens."""
        self.authorities: list[TorNode] = []
        self.relays: list[TorNode] = []
        self.directory_lines: list[str] = []
        """torrc lines by which any tor becomes part of this network, a client too."""
        self.ipv4 = host if ip_address(host).version == 4 else "127.0.0.1"
        """The address that every tor has."""
        self._relay_specs = tuple(relays)
        self._authority_lines = [
            *(["ConsensusParams " + consensus_params] if consensus_params else []),
            *([f"V3BandwidthsFile {bandwidths_file}"] if bandwidths_file else []),
            *authority_lines,
        ]
        count = 2 * authorities + 2 * len(relays)
        ports = iter(random.sample(PORTS, count) if prefix else free_ports(self.ipv4, count))
        for number in range(1, authorities + 1):
            name, address = f"auth{number}", Address(self.ipv4, next(ports))
            node = TorNode(name, folder / name, address, dir_port=next(ports), prefix=prefix)
            self.authorities.append(node)
        for spec in relays:
            hosts = dict.fromkeys([self.ipv4, host])
            addresses = [Address(ip, next(ports)) for ip in hosts]
            self.relays.append(TorNode(spec.nickname, folder / spec.nickname, *addresses, prefix=prefix))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def nodes(self) -> list[TorNode]:
        """Every tor."""
        return [*self.authorities, *self.relays]

    def launch(self) -> None:
        """Make keys, start every tor. Raises LocalError."""
        made = [make_authority(node, _ports(node)) for node in self.authorities]
        self.directory_lines = [*EVERY_TOR_LINES, *(line for line, _ in made)]
        common = [
            *self.directory_lines,
            "AssumeReachable 1",
            f"Address {self.ipv4}",
            f"OutboundBindAddress {self.ipv4}",
            "SocksPort 0",
            "ContactInfo none@example.net",
            "ExitPolicy reject *:*",
            "ShutdownWaitLength 0",
        ]
        for node, (_, itself) in zip(self.authorities, made, strict=True):
            node.configure([*common, *_ports(node), *_voting(itself), *self._authority_lines])
        for node, spec in zip(self.relays, self._relay_specs, strict=True):
            node.configure([*common, *_ports(node), *spec.limits(), *spec.torrc_lines])
        _wait_past_a_vote()
        for node in self.nodes:
            node.start()

    def start(self, timeout_s: float = READY_S) -> None:
        """Launch it and wait until it is one network. Raises LocalError."""
        self.launch()
        self.wait_ready(timeout_s)

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait for a consensus with every relay, until every relay has it and all descriptors. Raises LocalError.

        Only then may a client come: tor that asks a relay for what that has not yet, asks again after a minute or so.
        """
        wanted = {node.fingerprint() for node in self.nodes}
        self.wait_consensus(
            lambda entries: {fp for fp, entry in entries.items() if entry.running} >= wanted, timeout_s
        )
        for (
            node
        ) in self.relays:  # they asked when there was none yet, and would ask again after up to ten seconds
            node.reload()
        wait_for("descriptors at every relay", timeout_s, self._all_serve_it, CONSENSUS_POLL_S)

    def wait_consensus(
        self, right: Callable[[dict[Fingerprint, ConsensusEntry]], bool], timeout_s: float
    ) -> dict[Fingerprint, ConsensusEntry]:
        """The first authority's consensus, once `right` is true of every authority's. Raises LocalError."""

        def look() -> dict[Fingerprint, ConsensusEntry] | None:
            self.check_alive()
            first = self.consensus(self.authorities[0])
            others = (self.consensus(node) for node in self.authorities[1:])
            return first if right(first) and all(right(entries) for entries in others) else None

        return wait_for("the network's consensus", timeout_s, look, CONSENSUS_POLL_S)

    def consensus(self, authority: TorNode) -> dict[Fingerprint, ConsensusEntry]:
        """The newest consensus that this authority has; empty if it has none."""
        text = fetch(authority.directory, CONSENSUS_PATH)
        return consensus_entries(text) if text else {}

    def check_alive(self) -> None:
        """Raises LocalError, with the end of its log, if a tor has ended."""
        for node in self.nodes:
            node.check_alive()

    def stop(self, grace_s: float = STOP_S) -> None:
        """End every tor; each has so much time to end by itself."""
        stop_nodes(self.nodes, grace_s)

    def _all_serve_it(self) -> bool | None:
        self.check_alive()
        names = {node.name for node in self.nodes}
        return (
            all(node.known_consensus() and node.known_descriptors() >= names for node in self.relays) or None
        )


def _ports(node: TorNode) -> list[str]:
    lines = [f"ORPort {address}" for address in node.or_addresses]
    return lines if node.dir_port is None else [*lines, f"DirPort {node.directory}"]


def _voting(itself: Fingerprint) -> list[str]:
    """What makes a tor an authority, one that votes often and does not test its own bandwidth.

    That test, a minute after its start, would be half a megabyte through relays that are measured. There is none for a
    tor whose circuits leave out itself.
    """
    return [
        "AuthoritativeDirectory 1",
        "V3AuthoritativeDirectory 1",
        f"V3AuthVotingInterval {VOTING_INTERVAL_S}",
        "V3AuthVoteDelay 2",
        "V3AuthDistDelay 2",
        f"TestingV3AuthInitialVotingInterval {INITIAL_INTERVAL_S}",
        "TestingV3AuthInitialVoteDelay 2",
        "TestingV3AuthInitialDistDelay 2",
        f"ExcludeNodes {itself}",
        "StrictNodes 1",
    ]


def _wait_past_a_vote() -> None:
    """Tors that start shortly before one, 3 s into each 5 s, are missing in its consensus, and the next is 10 s later."""
    into_s = time.time() % INITIAL_INTERVAL_S
    if VOTE_AT_S - 2 < into_s < VOTE_AT_S:
        time.sleep(VOTE_AT_S - into_s)
