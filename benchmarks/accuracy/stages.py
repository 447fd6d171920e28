"""The deployments that are measured, and what a result of each is compared with: counts of another process."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.accuracy.groups import Batch, Group, Limit
from flashflow.ctrl.client import CtrlClient
from flashflow.demo.child import Child
from flashflow.demo.deployment import Deployment
from flashflow.demo.plan import Plan
from flashflow.demo.stage import Measurable
from flashflow.demo.team import Team
from flashflow.demo.tor_deployment import TorDeployment
from flashflow.demo.tor_plan import MEASURER_MBPS, TorPlan
from flashflow.demo.tor_report import MAX_SPREAD
from flashflow.shell.parent import own_command
from flashflow.testnet.counts import median_read_mbps
from flashflow.testnet.linkcount import read_link
from flashflow.testnet.links import ShapedLink
from flashflow.testnet.tornet_bw import median_bw_read_mbps

HOST = "127.0.0.1"
UNREACHED_MBPS = 10_000.0
"""Limit of a reference relay that is to have none: five times what two cores were seen to do."""
BEHIND_LINK_MBPS = 2000.0
"""That of one behind a link, which is slower."""
UNLIMITED_MEASURER_MBPS = 3000
"""Capacity of each measurer of an unlimited tor: the team shall not be its limit."""
RELAY_COMMAND = (*own_command("relay"), "--max-per-period", "1000")

Result = Mapping[str, Any]
"""The coordinator's result object of a successful measurement."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What somebody else counted in the measured seconds."""

    mbps: float
    """Their median, cell Mbit/s that the relay read."""
    source: str
    """Whose count it is."""


class Stage(Protocol):
    """A deployment that is ready."""

    @property
    def team(self) -> Team:
        """Its processes."""
        ...

    def relay(self, limit: Limit) -> Measurable:
        """The relay with this limit."""
        ...

    def prepare(self, batch: Batch) -> None:
        """Called before each batch."""
        ...

    def ctrl(self) -> CtrlClient:
        """A new connection to its coordinator."""
        ...

    def truth(self, limit: Limit, result: Result) -> Truth:
        """What is compared with a result. Raises LocalError."""
        ...

    def names(self) -> dict[int, str]:
        """What its processes are called, by process id."""
        ...


def tor_truth(bw: Path, result: Result) -> Truth:
    """tor's own BW events, or where those differ too much its counter at the measurement's seconds."""
    counted = median_bw_read_mbps(bw, result["active_utc_s"], result["duration_s"])
    if counted.spread > MAX_SPREAD:
        return Truth(counted.counter_mbps, "tor's traffic/read")
    return Truth(counted.cell_mbps, "tor's BW events")


def relay_truth(counts: Path, result: Result) -> Truth:
    """The reference relay's own count of what it read."""
    return Truth(
        median_read_mbps(counts, result["active_utc_s"], result["duration_s"]), "the relay's own count"
    )


def link_truth(record: Path, result: Result) -> Truth:
    """What the interface of the relay received, less headers."""
    figure = read_link(record, result["active_utc_s"], result["duration_s"])
    return Truth(figure.cell_mbps, "the interface's counters")


@contextmanager
def staged(group: Group, duration_s: int, work: Path) -> Iterator[Stage]:
    """The group's deployment, not started yet: `team.start()` is the caller's to explain. Raises LocalError."""
    if group.kind == "link":
        with ShapedLink(max(limit for limit in group.limits if limit)) as link, link.inside_team():
            team = linked_deployment(group.mode, duration_s, work, link)
            with team:
                yield LinkStage(team, link, work)
    elif group.mode == "loop":
        capacity_mbps = MEASURER_MBPS if any(group.limits) else UNLIMITED_MEASURER_MBPS
        plan = TorPlan(
            group.limits, duration_s, HOST, measurer_mbps=capacity_mbps, relay_lines=group.torrc_lines
        )
        with TorDeployment(plan, work) as tors:
            yield TorStage(tors)
    else:
        rates = tuple(limit or UNREACHED_MBPS for limit in group.limits)
        with Deployment(Plan(rates, duration_s, 0.0, HOST), work, RELAY_COMMAND) as relays:
            yield RelayStage(relays, group.limits)


def linked_deployment(mode: str, duration_s: int, work: Path, link: ShapedLink) -> Deployment | TorDeployment:
    """One relay without a limit of its own at the end of a link."""
    if mode == "loop":
        plan = TorPlan((None,), duration_s, link.team_host)
        return TorDeployment(plan, work, relay_host=link.relay_host, relay_exec=link.relay_exec)
    return Deployment(
        Plan((BEHIND_LINK_MBPS,), duration_s, 0.0, link.team_host),
        work,
        RELAY_COMMAND,
        relay_host=link.relay_host,
        relay_exec=link.relay_exec,
    )


def start(stage: Stage) -> None:
    """Start its processes and wait until it can be measured. Raises LocalError, NetworkError."""
    assert isinstance(stage.team, Deployment | TorDeployment)
    stage.team.start()


class TorStage:
    """Relays of stock tor."""

    def __init__(self, team: TorDeployment) -> None:
        self.team = team

    def relay(self, limit: Limit) -> Measurable:
        return next(relay for relay in self.team.relays if relay.rate_mbps == limit)

    def prepare(self, batch: Batch) -> None:
        pass

    def ctrl(self) -> CtrlClient:
        return self.team.ctrl()

    def truth(self, limit: Limit, result: Result) -> Truth:
        relay = next(relay for relay in self.team.relays if relay.rate_mbps == limit)
        return tor_truth(relay.bw, result)

    def names(self) -> dict[int, str]:
        return {**child_names(self.team), **{node.pid: node.name for node in self.team.network.nodes}}


class RelayStage:
    """Reference relays."""

    def __init__(self, team: Deployment, limits: tuple[Limit, ...]) -> None:
        self.team = team
        self._limits = limits

    def relay(self, limit: Limit) -> Measurable:
        return self.team.relays[self._limits.index(limit)]

    def prepare(self, batch: Batch) -> None:
        pass

    def ctrl(self) -> CtrlClient:
        return self.team.ctrl()

    def truth(self, limit: Limit, result: Result) -> Truth:
        return relay_truth(self.team.relays[self._limits.index(limit)].counts, result)

    def names(self) -> dict[int, str]:
        return child_names(self.team)


class LinkStage:
    """One relay behind a shaped link."""

    def __init__(self, team: Deployment | TorDeployment, link: ShapedLink, work: Path) -> None:
        self.team = team
        self._link = link
        self._record = work / "link"
        self._recorder: Child | None = None

    def relay(self, limit: Limit) -> Measurable:
        return self.team.relays[0]

    def prepare(self, batch: Batch) -> None:
        if self._recorder is None:
            self._recorder = self.team.start_child("link", self._link.recorder_command(self._record))
            self._recorder.wait_ready()
        [mbps] = batch
        assert mbps is not None
        self._link.change(mbps)

    def ctrl(self) -> CtrlClient:
        return self.team.ctrl()

    def truth(self, limit: Limit, result: Result) -> Truth:
        return link_truth(self._record, result)

    def names(self) -> dict[int, str]:
        return child_names(self.team)


def child_names(team: Team) -> dict[int, str]:
    """Those of the processes that it started itself."""
    return {child.pid: child.name for child in team.children}
